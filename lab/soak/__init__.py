"""Bad input by the million: `make soak`. Each case has a seed and can be run alone."""
