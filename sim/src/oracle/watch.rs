//! The rules of a whole cluster, as they are looked at while it runs.

use super::clocks::Clocks;
use super::fences::Fences;
use super::leaders::Leaders;
use super::orders::Orders;
use super::updates::Updates;
use super::voids::Voids;

/// What the rules have to remember.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// One leader a term.
    pub leaders: Leaders,
    /// Nothing acknowledged is lost.
    pub updates: Updates,
    /// Nothing fenced counts.
    pub fences: Fences,
    /// Nothing void comes back.
    pub voids: Voids,
    /// What an operator was told stays so; none if nobody orders anything.
    pub orders: Option<Orders>,
    /// Clocks do not fall.
    pub clocks: Clocks,
}
