use crate::batch::Batch;
use crate::config::{EmbeddingConfig, TrainConfig};
use crate::domain::EventTime;
use crate::embedding::{Gather, InputLayout, RowsState, Table, TableCopy, TableError};
use crate::nets::{Inputs, Sequence};

/// Tables, one per dim, and what a batch looks up in them: where one input matrix comes from and where its gradient goes.
#[derive(Debug)]
pub(super) struct Lookup {
    /// In the order of [`InputLayout::dims`].
    tables: Vec<(Table, Gather)>,
}

impl Lookup {
    pub(super) fn new(embedding: &EmbeddingConfig, layout: &InputLayout, config: &TrainConfig) -> Self {
        let table = |dim| Table::new(&EmbeddingConfig { dim, ..embedding.clone() }, &config.optimizer, config.seed);
        Lookup { tables: layout.dims(embedding.dim).into_iter().map(|dim| (table(dim), Gather::default())).collect() }
    }

    /// The input matrix `[rows, layout.width()]`, zero where click rates stand.
    pub(super) fn read(&mut self, layout: &InputLayout, batch: &Batch) -> Vec<f32> {
        let mut inputs = layout.matrix(batch);
        self.tables.iter_mut().for_each(|(table, gather)| gather.read(table, layout, batch, &mut inputs));
        inputs
    }

    /// The layout's sequences in the batch that was read last.
    pub(super) fn sequences(&self, layout: &InputLayout, batch: &Batch) -> Vec<Sequence> {
        sequences(self.tables.iter().map(|(_, gather)| gather), layout, batch)
    }

    /// As [`Lookup::read`] and [`Lookup::sequences`], without leaving a trace.
    pub(super) fn peek(&self, layout: &InputLayout, batch: &Batch) -> Inputs {
        let mut shared = layout.matrix(batch);
        let read = |(table, _): &(Table, Gather)| {
            let mut gather = Gather::default();
            gather.read(table, layout, batch, &mut shared);
            gather
        };
        let gathers: Vec<Gather> = self.tables.iter().map(read).collect();
        Inputs { shared, light: None, sequences: sequences(gathers.iter(), layout, batch) }
    }

    /// See [`Gather::scatter`].
    pub(super) fn scatter(&mut self, layout: &InputLayout, batch: &Batch, gradient: &[f32], sequences: &[Sequence]) -> bool {
        let sequences: Vec<&[f32]> = sequences.iter().map(|sequence| sequence.rows.as_slice()).collect();
        self.tables.iter_mut().all(|(_, gather)| gather.scatter(layout, batch, gradient, &sequences))
    }

    /// See [`Gather::squares`].
    pub(super) fn squares(&self) -> f64 {
        self.tables.iter().map(|(_, gather)| gather.squares()).sum()
    }

    /// See [`Gather::scale`].
    pub(super) fn scale(&mut self, by: f64) {
        self.tables.iter_mut().for_each(|(_, gather)| gather.scale(by));
    }

    pub(super) fn apply(&mut self, time: Option<EventTime>) {
        self.tables.iter_mut().for_each(|(table, gather)| gather.apply(table, time));
    }

    /// See [`Table::begin_capture`].
    pub(super) fn begin_capture(&mut self, full: bool) {
        self.tables.iter_mut().for_each(|(table, _)| table.begin_capture(full));
    }

    /// See [`Table::copy`].
    pub(super) fn copy(&mut self, rows: usize) -> usize {
        self.tables.iter_mut().fold(0, |copied, (table, _)| copied + table.copy(rows - copied))
    }

    /// See [`Table::end_capture`].
    pub(super) fn end_capture(&mut self) -> Option<Vec<TableCopy>> {
        self.tables.iter_mut().map(|(table, _)| table.end_capture()).collect()
    }

    /// A lookup of the same settings over the rows of `states`, one for each table.
    pub(super) fn restored(&self, states: &[RowsState]) -> Result<Self, TableError> {
        let expected: Vec<usize> = self.tables.iter().map(|(table, _)| table.dim()).collect();
        let found: Vec<usize> = states.iter().map(|state| state.dim).collect();
        if found.len() != expected.len() || found.iter().skip(1).ne(expected.iter().skip(1)) {
            return Err(TableError::Dims { found, expected });
        }
        let tables = self.tables.iter().zip(states).map(|((table, _), state)| Ok((table.restored(state)?, Gather::default())));
        Ok(Lookup { tables: tables.collect::<Result<_, TableError>>()? })
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.iter().map(|(table, _)| table)
    }

    pub(super) fn rows(&self) -> usize {
        self.tables.iter().map(|(table, _)| table.len()).sum()
    }
}

/// Each from the table that its slot's rows are in.
fn sequences<'a>(gathers: impl Iterator<Item = &'a Gather> + Clone, layout: &InputLayout, batch: &Batch) -> Vec<Sequence> {
    let read = |sequence| gathers.clone().find_map(|gather| gather.sequence(layout, batch, sequence));
    let read = layout.sequences().iter().filter_map(|sequence| read(*sequence));
    read.map(|(rows, lengths)| Sequence { rows, lengths }).collect()
}
