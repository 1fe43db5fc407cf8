//! See `gear_fuzz::record_log_decode`.
#![cfg_attr(fuzzing, no_main)]
gear_fuzz::target!(record_log_decode);
