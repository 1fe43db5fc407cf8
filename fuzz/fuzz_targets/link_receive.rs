//! See `gear_fuzz::link_receive`.
#![cfg_attr(fuzzing, no_main)]
gear_fuzz::target!(link_receive);
