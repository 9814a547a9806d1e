//! Bandwidth estimation and feedback.
