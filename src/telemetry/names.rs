//! Every metric name, with what it counts and its unit.
