use crate::batch::Batch;
use crate::config::{EmbeddingConfig, TrainConfig};
use crate::domain::EventTime;
use crate::embedding::{Gather, InputLayout, RowsState, Table, TableError};

/// A table and what a batch looks up in it: where one input matrix comes from and where its gradient goes.
#[derive(Debug)]
pub(super) struct Lookup {
    table: Table,
    gather: Gather,
}

impl Lookup {
    pub(super) fn new(embedding: &EmbeddingConfig, config: &TrainConfig) -> Self {
        Lookup { table: Table::new(embedding, &config.optimizer, config.seed), gather: Gather::default() }
    }

    /// The input matrix `[rows, layout.width()]`.
    pub(super) fn read(&mut self, layout: &InputLayout, batch: &Batch) -> Vec<f32> {
        self.gather.read(&self.table, layout, batch)
    }

    /// As [`Lookup::read`], without leaving a trace.
    pub(super) fn peek(&self, layout: &InputLayout, batch: &Batch) -> Vec<f32> {
        Gather::default().read(&self.table, layout, batch)
    }

    /// See [`Gather::scatter`].
    pub(super) fn scatter(&mut self, layout: &InputLayout, batch: &Batch, gradient: &[f32]) -> bool {
        self.gather.scatter(layout, batch, gradient)
    }

    /// See [`Gather::squares`].
    pub(super) fn squares(&self) -> f64 {
        self.gather.squares()
    }

    /// See [`Gather::scale`].
    pub(super) fn scale(&mut self, by: f64) {
        self.gather.scale(by);
    }

    pub(super) fn apply(&mut self, time: Option<EventTime>) {
        self.gather.apply(&mut self.table, time);
    }

    pub(super) fn capture(&mut self, full: bool) -> RowsState {
        self.table.capture(full)
    }

    /// A lookup of the same settings over the rows of `state`.
    pub(super) fn restored(&self, state: &RowsState) -> Result<Self, TableError> {
        Ok(Lookup { table: self.table.restored(state)?, gather: Gather::default() })
    }

    pub(super) fn rows(&self) -> usize {
        self.table.len()
    }
}
