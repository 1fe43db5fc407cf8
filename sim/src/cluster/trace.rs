//! How the inputs and effects of a cluster's processes are noted.

use gear_core::effect::StoreReply;
use gear_core::host::process::{DiskReply, DiskRequest, ProcessEffect, ProcessInput};
use gear_core::time::Time;

use crate::direct::trace::{request_to_disk, request_to_store};
use crate::trace::{Trace, shown};

impl Trace {
    /// Notes what a process hears.
    pub(crate) fn input(&mut self, now: Time, process: usize, input: &ProcessInput) {
        self.numbers(&[now.0, 1, process as u64]);
        match input {
            ProcessInput::Received { connection, bytes } => {
                self.numbers(&[connection.0]);
                self.bytes(bytes);
            }
            ProcessInput::Stored { token, reply: StoreReply::Bytes(bytes) } => {
                self.numbers(&[token.0]);
                self.bytes(bytes);
            }
            ProcessInput::Disk { token, reply: DiskReply::Loaded { entries } } => {
                self.numbers(&[token.0]);
                entries.iter().for_each(|(_, bytes)| self.bytes(bytes));
            }
            other => self.debug(other),
        }
        self.write(now, || format!("process {process} hears {}", shown(input)));
    }

    /// Notes what a process wants.
    pub(crate) fn effect(&mut self, now: Time, process: usize, effect: &ProcessEffect) {
        self.numbers(&[now.0, 2, process as u64]);
        match effect {
            ProcessEffect::Write { connection, bytes } => {
                self.numbers(&[connection.0]);
                self.bytes(bytes);
            }
            ProcessEffect::WriteFrame { connection, frame } => {
                self.numbers(&[connection.0]);
                frame.behind(0).into_iter().for_each(|part| self.bytes(part));
            }
            ProcessEffect::Store { token, request } => {
                self.numbers(&[token.0]);
                request_to_store(self, request);
            }
            ProcessEffect::Io { token, request, .. } => {
                self.numbers(&[token.0]);
                request_to_disk(self, request);
            }
            ProcessEffect::Disk { token, request: DiskRequest::Write { entries } } => {
                self.numbers(&[token.0]);
                entries.iter().flat_map(|(_, bytes)| bytes).for_each(|bytes| self.bytes(bytes));
            }
            other => self.debug(other),
        }
        self.write(now, || format!("process {process} wants {}", shown(effect)));
    }

    /// Notes that a process takes its turn.
    pub(crate) fn turn(&mut self, now: Time, process: usize) {
        self.numbers(&[now.0, 3, process as u64]);
        self.write(now, || format!("process {process} takes its turn"));
    }
}
