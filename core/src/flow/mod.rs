//! The data plane: closed loops over batches of records.

pub mod batch;
pub mod state;
