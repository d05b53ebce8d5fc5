//! Everything that a snapshot needs, read and compared.
