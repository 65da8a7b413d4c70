//! Text cut to the columns that it may take, under the name that the display knows.

pub(super) use crate::columns::{fit, width};
