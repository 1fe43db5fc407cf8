//! See `gear_fuzz::input_clock`.
#![cfg_attr(fuzzing, no_main)]
gear_fuzz::target!(input_clock);
