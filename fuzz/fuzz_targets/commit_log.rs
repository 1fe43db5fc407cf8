//! See `gear_fuzz::commit_log`.
#![cfg_attr(fuzzing, no_main)]
gear_fuzz::target!(commit_log);
