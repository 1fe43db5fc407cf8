//! App masters and executors of a cluster that lose each other, over a model store and disk: real
//! jobs, real tasks, and whatever may happen between them.

mod cluster;
mod executor;
mod faults;
mod job;
mod random;
mod replays;
mod tricky;
