//! See `gear_fuzz::message_decode`.
#![cfg_attr(fuzzing, no_main)]
gear_fuzz::target!(message_decode);
