//! dag.
