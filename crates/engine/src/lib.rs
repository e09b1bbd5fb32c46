//! Decisions: compiles the model to an immutable snapshot and answers where to, allowed or not, which endpoint. Pure.
