"""The data plane: the OpenAI API on one side, SSH sessions with relays on the other."""
