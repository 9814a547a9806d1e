//! How the links of participants did in the last ten minutes, and what that means.
//!
//! - [`LinkLog`] keeps a [`Second`] of each participant's link per second, and what changed when.
//! - [`score`] and [`judge`] say how good a connection is now.
//! - [`LinkCensus`] is what all of them together are, for the metrics.
//! - [`explain`] answers in sentences what was wrong; [`LinkAnswer`] holds them and the log, as JSON.

mod answer;
mod census;
mod episodes;
mod log;
mod quality;
mod second;
mod sentences;

pub use answer::{LinkAnswer, RoomName, word};
pub use census::{Distribution, LinkCensus, LinkDistributions};
pub use log::{LinkLog, Occurrence, TrackName};
pub use quality::{Quality, judge, score};
pub use second::{Part, Rate, Second};
pub use sentences::explain;
