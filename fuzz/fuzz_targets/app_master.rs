//! See `gear_fuzz::app_master`.
#![cfg_attr(fuzzing, no_main)]
gear_fuzz::target!(app_master);
