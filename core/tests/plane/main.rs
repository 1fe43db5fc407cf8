//! The data plane against naive models: whole tasks, driven by hand through random inputs.
//!
//! They stand here and not beside the code because they catch the panics of operators, for which
//! `core` itself has no means.

mod aggregates;
mod alignment;
mod dead_letters;
mod expiring;
mod graphs;
mod operators;
mod output;
mod processes;
mod replays;
mod rig;
mod routes;
mod stages;
mod windows;
