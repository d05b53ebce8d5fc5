//! Store to exporter.
