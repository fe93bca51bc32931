"""The revisions of the schema. Only `sluice db upgrade` (sluice.web.database.upgrade) runs them."""
