"""The schema, revision after revision. Only `sluice db upgrade` (sluice.web.upgrade) runs it."""
