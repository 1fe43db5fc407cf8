//! Sources and sinks: files, HDFS, Kafka, standard input and output, TCP lines, generators.
//!
//! A connector is a pure machine: it reads through the `Files` and asks for I/O through the
//! `IoQueue` of its context. The drivers of that I/O are [`os`] for the operating system, [`hdfs`]
//! for HDFS (with the feature `hdfs`), and [`model`] for a disk in memory that a simulator can
//! crash; [`schemes`] chooses by the path.
//!
//! [`formats`] are what records are decoded with and encoded with.

#![deny(unsafe_code)]

pub mod blackhole;
pub mod collect;
pub mod faults;
pub mod files;
mod format;
pub mod formats;
pub mod generate;
pub mod hdfs;
pub mod kafka;
pub mod model;
pub mod os;
mod random;
pub mod schemes;
pub mod services;
pub mod socket;
pub mod stdin;
pub mod stdout;
mod stream;
mod versioned;
mod zipf;

pub use format::Format;
