//! What a cluster does, end to end: masters, workers, and what a user sees.

mod operations;
mod random;
mod scenarios;
mod world;
