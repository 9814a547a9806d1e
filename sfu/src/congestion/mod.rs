//! Bandwidth: feedback in both directions, what a subscriber's link carries, and who gets how much of it.
//!
//! - [`FeedbackGenerator`] tells a publisher when its packets arrived (transport-wide congestion control).
//! - [`SendSide`] is the estimate of a subscriber's link by its transport-wide feedback. Its parts are state machines of
//!   their own: [`SentHistory`], [`AcknowledgedRate`], [`BusyRate`], [`Trendline`] and [`Aimd`] (delay), [`StandingQueue`],
//!   [`Collapse`], [`LossBased`], [`Prober`], [`ProbeQueue`], and [`Trial`] of what it finds. [`SharedLink`] is what several subscribers behind one link
//!   know together.
//! - [`LossAndRemb`] is the estimate where a client offers no such feedback: loss in receiver reports, and REMB.
//!   [`Estimate`] is whichever of the two there is.
//! - [`allocate`] gives every video of a subscriber what fits.
//! - [`Pacer`] lets it leave no faster than the link takes it; [`AudioRepair`] sends audio again over a link that loses.

mod acknowledged_rate;
mod aimd;
mod allocator;
mod audio_repair;
mod busy_rate;
mod collapse;
mod estimate;
mod feedback;
mod loss_and_remb;
mod loss_based;
mod pacer;
mod probe_queue;
mod probing;
mod send_side;
mod sending;
mod sent_history;
mod shared_link;
mod standing_queue;
mod steady;
mod trendline;
mod trial;

pub use acknowledged_rate::AcknowledgedRate;
pub use aimd::{Aimd, Observation};
pub use allocator::{Choice, Room, VideoDemand, allocate};
pub use audio_repair::AudioRepair;
pub use busy_rate::BusyRate;
pub use collapse::Collapse;
pub use estimate::Estimate;
pub use feedback::FeedbackGenerator;
pub use loss_and_remb::LossAndRemb;
pub use loss_based::LossBased;
pub use pacer::{Pacer, Priority};
pub use probe_queue::ProbeQueue;
pub use probing::{Burst, Found, Prober};
pub use send_side::{START_BPS, SendSide};
pub use sent_history::{Acknowledged, SentHistory};
pub use shared_link::{Member, SharedLink};
pub use standing_queue::StandingQueue;
pub use steady::Steady;
pub use trendline::{Trendline, Usage};
pub use trial::Trial;
