//! Every decision of the Gear streaming engine, as pure machines.
//!
//! Nothing in this crate can read a clock, open a socket, start a thread or draw entropy: time,
//! randomness and bytes are arguments, and what has to happen outside is an [`effect`]. The
//! drivers in `node` and the simulators in `sim` run the very same machines.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
// Lets the derives name `gear_core` inside this crate too.
extern crate self as gear_core;

pub mod api;
pub mod app;
pub mod checkpoint;
pub mod clock;
pub mod control;
pub mod crdt;
pub mod dag;
pub mod dsl;
pub mod effect;
pub mod executor;
pub mod flow;
pub mod host;
pub mod id;
pub mod limits;
pub mod link;
pub mod master;
pub mod message;
pub mod scheduler;
pub mod task;
pub mod time;
pub mod wire;
pub mod worker;
