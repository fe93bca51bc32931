"""The schema, revision after revision: run by `sluice db upgrade` (sluice.web.upgrade) alone."""
