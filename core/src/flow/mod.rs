//! The data plane: closed loops over batches of records.

pub mod aggregate;
pub mod batch;
pub mod logic;
pub mod operator;
pub mod outputs;
mod prefetch;
pub mod process;
pub mod push;
pub mod segment;
pub mod sink;
pub mod source;
pub mod stages;
pub mod state;
pub mod tail;
pub mod window;
