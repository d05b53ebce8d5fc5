//! A server that is scripted, and mostly means no good.
