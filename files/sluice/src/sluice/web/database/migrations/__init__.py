"""The schema, revision after revision. Only `sluice db upgrade` (sluice.web.database.upgrade) runs it."""
