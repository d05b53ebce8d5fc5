//! What the engine is lent on an operating system.
