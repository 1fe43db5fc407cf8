//! See `gear_fuzz::quarantine_decode`.
#![cfg_attr(fuzzing, no_main)]
gear_fuzz::target!(quarantine_decode);
