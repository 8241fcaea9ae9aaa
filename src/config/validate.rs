//! What must hold for single values and across fields, once types are right.

use std::fmt::{Debug, Display};

use super::{
    AdmissionConfig, ByteLength, CanaryConfig, Config, EarlyLabels, EmbeddingOptimizer, Emit, ExpiryConfig, FeatureConfig, FeatureKind,
    GatesConfig, Heads, HintConfig, HintKind, HintSchedule, JoinConfig, OWNED_KAFKA_PROPERTIES, SharedGrad, Span, StreamMode,
    USER_IMPRESSIONS_CAP,
};

/// Below it a snapshot of ordinary size has thousands of records.
const CHUNK_MIN: ByteLength = ByteLength(64 << 10);
/// Kafka's default limit of a message is 1 MiB, with key, headers and batch overhead.
const CHUNK_MAX: ByteLength = ByteLength(900 << 10);
/// Half as many deltas as a reader follows from a version sent whole: what it goes back over may have been held back before.
const FULL_EVERY_MAX: u64 = 128;
/// The manifest holds every probe and must fit one record.
const PROBES_MAX: usize = 256;
/// Both kinds are part of every checkpoint, some 300 bytes each.
const GATE_SAMPLES_MAX: usize = 65_536;
/// Samples above it wait in memory for no gain: throughput is flat from a few thousand rows on.
const BATCH_ROWS_MAX: usize = 65_536;
/// Far above any published width; catches a size written where a width belongs.
const WIDTH_MAX: usize = 65_536;
/// Far above any published dimension; a row is this many floats, twice with its optimizer state.
pub(super) const DIM_MAX: usize = 4096;
/// Rows of a sequence are copied to the device for every example, as many as this at most.
const SEQUENCE_MAX: usize = 1024;
/// Below it even a small stream fills the filter between two checkpoints.
const FILTER_MIN: ByteLength = ByteLength(64 << 10);
/// The filter is part of every checkpoint, and halving it holds up a step: about 10 ms at this size.
const FILTER_MAX: ByteLength = ByteLength(64 << 20);
/// Ages are kept in steps of some four minutes.
const EXPIRY_MIN: Span = Span::from_secs(600);
/// An eighth of it is kept free, which must be something.
const ROWS_MAX_MIN: usize = 16;
/// Rows are numbered in 32 bits.
const ROWS_MAX_MAX: usize = u32::MAX as usize - 1;
/// Layers of one head; deeper ones have no use without residual connections.
const LAYERS_MAX: usize = 64;
/// More than any machine has cores.
const THREADS_MAX: usize = 4096;
/// sled needs room for the pages of one write.
const SLED_CACHE_MIN: ByteLength = ByteLength(1 << 20);
/// Kafka's limit is 249 characters; the longest suffix of a derived name is `.impressions`.
const NAME_LENGTH_MAX: usize = 200;
const TOPIC_LENGTH_MAX: usize = 249;

/// A value that cannot be.
#[derive(Debug)]
pub(super) struct Fault {
    /// Full key.
    pub(super) key: String,
    /// Its value.
    pub(super) value: String,
    /// What is allowed.
    pub(super) allowed: String,
}

type Checked = Result<(), Fault>;

/// The first fault, in the order of the sections.
pub(super) fn validate(config: &Config) -> Checked {
    name(config)?;
    kafka(config)?;
    topics(config)?;
    join(config)?;
    schema(config)?;
    model(config)?;
    dims(config)?;
    attention(config)?;
    train(config)?;
    arms(config)?;
    evaluate(config)?;
    state(config)?;
    publish(config)?;
    admin(config)
}

fn need(holds: bool, key: &str, value: impl Display, allowed: impl Display) -> Checked {
    if holds { Ok(()) } else { Err(Fault { key: key.to_owned(), value: value.to_string(), allowed: allowed.to_string() }) }
}

/// As [`need`], the value in quotes.
fn need_text(holds: bool, key: &str, value: impl Debug, allowed: impl Display) -> Checked {
    need(holds, key, format_args!("{value:?}"), allowed)
}

fn positive_span(key: &str, span: Span) -> Checked {
    need(span.as_millis() > 0, key, span, "expected at least \"1ms\"")
}

fn at_least<N: PartialOrd + Display>(key: &str, value: N, least: N) -> Checked {
    let allowed = format!("expected at least {least}");
    need(value >= least, key, value, allowed)
}

fn positive(key: &str, value: f64) -> Checked {
    need(value.is_finite() && value > 0.0, key, value, "expected a finite number above zero")
}

fn not_negative(key: &str, value: f64) -> Checked {
    need(value.is_finite() && value >= 0.0, key, value, "expected a finite number, zero or above")
}

fn name(config: &Config) -> Checked {
    let legal = config.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let fits = (1..=NAME_LENGTH_MAX).contains(&config.name.len());
    need_text(
        legal && fits,
        "name",
        &config.name,
        format!("expected 1 to {NAME_LENGTH_MAX} letters, digits, `_` or `-`: it names topics and files"),
    )
}

fn kafka(config: &Config) -> Checked {
    let kafka = &config.kafka;
    need_text(!kafka.brokers.trim().is_empty(), "kafka.brokers", &kafka.brokers, "expected `host:port`, several separated by commas")?;
    need_text(!kafka.group.is_empty(), "kafka.group", &kafka.group, "expected a consumer group's name")?;
    positive_span("kafka.timeout", kafka.timeout)?;
    for key in kafka.properties.keys() {
        let owned = OWNED_KAFKA_PROPERTIES.iter().find(|(owned, _)| owned.eq_ignore_ascii_case(key));
        if let Some((_, instead)) = owned {
            return need(false, &format!("kafka.properties.{key}"), "…", format!("this program sets it itself: {instead}"));
        }
    }
    Ok(())
}

fn topics(config: &Config) -> Checked {
    let mut used = match config.topics.mode {
        StreamMode::Labelled => vec![("topics.events", config.events_topic())],
        StreamMode::Joined => vec![("topics.impressions", config.impressions_topic()), ("topics.clicks", config.clicks_topic())],
    };
    used.push(("topics.dead_letters", config.dead_letters_topic()));
    used.push(("topics.snapshots", config.snapshots_topic()));
    used.push(("topics.acks", config.acks_topic()));
    for (index, (key, topic)) in used.iter().enumerate() {
        let legal = topic.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) && topic != "." && topic != "..";
        let allowed = format!("expected 1 to {TOPIC_LENGTH_MAX} letters, digits, `.`, `_` or `-`");
        need_text(legal && (1..=TOPIC_LENGTH_MAX).contains(&topic.len()), key, topic, allowed)?;
        if let Some((other, _)) = used.iter().take(index).find(|(_, other)| other == topic) {
            return need_text(false, key, topic, format!("`{other}` is this topic already; each needs its own"));
        }
    }
    Ok(())
}

fn join(config: &Config) -> Checked {
    let join = &config.join;
    positive_span("join.window", join.window)?;
    positive_span("join.idle", join.idle)?;
    let least = Span(join.window.0.saturating_add(join.grace.0));
    let allowed = format!("expected at least join.window + join.grace = {least}, or late clicks would count as unknown");
    need(join.memory >= least, "join.memory", join.memory, allowed)?;
    early(config)
}

/// Labels that are trained before they are final.
fn early(config: &Config) -> Checked {
    let JoinConfig { emit, early, wait, window, .. } = &config.join;
    let waits = *emit == Emit::Early && *early == EarlyLabels::EsDfm;
    let allowed = format!("join.early = \"es_dfm\" needs a time above zero and below join.window = {window}");
    match wait {
        None => need(!waits, "join.wait", "none", allowed)?,
        Some(wait) => {
            let alone = "only join.emit = \"early\" with join.early = \"es_dfm\" waits; leave it out";
            need(waits, "join.wait", wait, alone)?;
            need(wait.as_millis() > 0 && wait < window, "join.wait", wait, allowed)?;
        }
    }
    if config.early_labels().is_none() {
        return Ok(());
    }
    let (keep, schedule) = (config.train.negatives.keep, config.train.hint.schedule);
    let allowed = "whether an impression that leaves early is a negative is not known then: expected 1, or another join.emit";
    need(keep >= 1.0, "train.negatives.keep", keep, allowed)?;
    let allowed = "it compares log losses, and labels that are trained early are not final: expected \"constant\", or another join.emit";
    need(schedule == HintSchedule::Constant, "train.hint.schedule", serde_json::json!(schedule), allowed)
}

fn schema(config: &Config) -> Checked {
    let schema = &config.schema;
    let columns = [("time", &schema.time), ("user", &schema.user), ("item", &schema.item), ("label", &schema.label)];
    for (key, column) in columns.into_iter().chain(schema.impression.as_ref().map(|column| ("impression", column))) {
        need_text(!column.is_empty(), &format!("schema.{key}"), column, "expected a column's name")?;
        let apart = key == "label" || *column != schema.label;
        need_text(apart, &format!("schema.{key}"), column, "this is the label's column; it can stand for nothing else")?;
    }
    let joined = config.topics.mode == StreamMode::Joined;
    let allowed = "topics.mode = \"joined\" needs the column of the impression id, on impressions and clicks";
    need(!joined || schema.impression.is_some(), "schema.impression", "none", allowed)?;
    need(!schema.features.is_empty(), "schema.features", "[]", "expected at least one feature")?;
    if let Some(fault) = schema.feature_fault() {
        let key = format!("schema.features[{}].{}", fault.index, fault.key);
        return need(false, &key, &fault.value, format!("feature `{}`: {}", fault.feature, fault.allowed));
    }
    let feeds = schema.features.iter().any(|feature| feature.embed);
    need(feeds, "schema.features", "embed = false in all", "expected at least one feature that the nets see")?;
    for (index, feature) in schema.features.iter().enumerate() {
        let Some(column) = feature.column() else { continue };
        let leak = if column == schema.label {
            "the label is what the nets predict; no feature may read it"
        } else if column == schema.time {
            "the event time never comes again, so nothing is learned from it; use kind `hour` or `weekday`"
        } else if schema.impression.as_deref() == Some(column) {
            "an impression id never comes again, so nothing is learned from it"
        } else {
            continue;
        };
        let key = if feature.column.is_some() { "column" } else { "name" };
        return need_text(false, &format!("schema.features[{index}].{key}"), column, leak);
    }
    Ok(())
}

fn model(config: &Config) -> Checked {
    let model = &config.model;
    let dim = model.embedding.dim;
    need((1..=DIM_MAX).contains(&dim), "model.embedding.dim", dim, format!("expected 1 to {DIM_MAX}"))?;
    not_negative("model.embedding.init_scale", model.embedding.init_scale.into())?;
    admission(&model.embedding.admission)?;
    expiry(&model.embedding.expiry)?;
    let attention = &model.booster_attention.hidden;
    let layers = [("model.shared", &model.shared), ("model.light", &model.light), ("model.booster", &model.booster)];
    for (key, widths) in layers.into_iter().chain([("model.booster_attention.hidden", attention)]) {
        need(widths.len() <= LAYERS_MAX, key, format!("{} layers", widths.len()), format!("at most {LAYERS_MAX} layers"))?;
        for (layer, width) in widths.iter().enumerate() {
            need((1..=WIDTH_MAX).contains(width), &format!("{key}[{layer}]"), width, format!("expected a width of 1 to {WIDTH_MAX}"))?;
        }
    }
    let cross = model.booster_cross.layers;
    need(cross <= LAYERS_MAX, "model.booster_cross.layers", cross, format!("expected 0 to {LAYERS_MAX}"))?;
    let slots = config.schema.features.iter().filter(|feature| feature.has_slot()).count();
    let allowed = format!("it multiplies slots by one another and the schema has {slots}: expected false, or two features with embeddings");
    need(!model.booster_fm || slots >= 2, "model.booster_fm", "true", allowed)
}

/// A row has one dim, so features that share rows have one; so have all slots where the booster multiplies them by one another.
fn dims(config: &Config) -> Checked {
    let features = &config.schema.features;
    let dim = |feature: &FeatureConfig| feature.dim(config.model.embedding.dim);
    for (index, feature) in features.iter().enumerate().filter(|(_, feature)| feature.has_slot()) {
        let shares = |other: &FeatureConfig| other.has_slot() && other.table() == feature.table() && dim(other) != dim(feature);
        let Some(before) = features[..index].iter().position(shares) else { continue };
        // One of the two has a dim of its own.
        let (said, other) = if feature.dim.is_some() { (index, before) } else { (before, index) };
        let (table, name) = (feature.table(), &features[other].name);
        let allowed = format!("feature `{name}` of the same table `{table}` has {}; expected the same", dim(&features[other]));
        return need(false, &format!("schema.features[{said}].dim"), dim(&features[said]), allowed);
    }
    let mut slots = features.iter().filter(|feature| feature.has_slot());
    let first = slots.next().map_or(config.model.embedding.dim, dim);
    let alike = slots.all(|feature| dim(feature) == first);
    need(
        !config.model.booster_fm || alike,
        "model.booster_fm",
        "true",
        "it multiplies slots by one another: expected false, or one dim for all",
    )
}

/// A sequence is as long as its bag's `last`, and is looked at with one id of the same dim.
fn attention(config: &Config) -> Checked {
    let (features, pairs) = (&config.schema.features, &config.model.booster_attention.of);
    for (index, pair) in pairs.iter().enumerate() {
        let place = |key: &str, name: &str| {
            let key = format!("model.booster_attention.of[{index}].{key}");
            let found = features.iter().position(|feature| feature.name == name && feature.has_slot());
            need_text(found.is_some(), &key, name, "expected the name of a feature with embeddings of its own")?;
            Ok((key, found.unwrap_or_default()))
        };
        let (key, sequence) = place("sequence", &pair.sequence)?;
        let FeatureKind::Bag { last: Some(last), .. } = features[sequence].kind else {
            return need_text(false, &key, &pair.sequence, "it is no sequence: expected a bag with `last`");
        };
        let allowed = format!("its `last` is {last}: expected at most {SEQUENCE_MAX}");
        need_text(last <= SEQUENCE_MAX, &key, &pair.sequence, allowed)?;
        let (key, target) = place("target", &pair.target)?;
        let one = features[target].has_many_ids(&features[..target]) == Some(false);
        need_text(one, &key, &pair.target, "it may have several ids: expected a feature with one")?;
        let [of_sequence, of_target] = [sequence, target].map(|place| features[place].dim(config.model.embedding.dim));
        let allowed = format!("its dim is {of_target}, that of `{}` {of_sequence}: expected the same", pair.sequence);
        need_text(of_sequence == of_target, &key, &pair.target, allowed)?;
        let again = pairs[..index].contains(pair);
        need_text(!again, &key, &pair.target, format!("it stands beside `{}` already", pair.sequence))?;
    }
    Ok(())
}

fn admission(admission: &AdmissionConfig) -> Checked {
    let (p, filter) = (admission.probability, admission.filter);
    need(p > 0.0 && p <= 1.0, "model.embedding.admission.probability", p, "expected above 0 and at most 1")?;
    let one = admission.min_count <= 1 || p == 1.0;
    need(one, "model.embedding.admission.probability", p, "min_count is set already; use one of the two")?;
    let fits = (FILTER_MIN..=FILTER_MAX).contains(&filter);
    need(fits, "model.embedding.admission.filter", filter, format!("expected {FILTER_MIN} to {FILTER_MAX}"))
}

fn expiry(expiry: &ExpiryConfig) -> Checked {
    if let Some(after) = expiry.after {
        need(after >= EXPIRY_MIN, "model.embedding.expiry.after", after, format!("expected at least {EXPIRY_MIN}"))?;
    }
    let rows = expiry.rows_max;
    let fits = rows == 0 || (ROWS_MAX_MIN..=ROWS_MAX_MAX).contains(&rows);
    need(fits, "model.embedding.expiry.rows_max", rows, format!("expected 0 (no limit) or {ROWS_MAX_MIN} to {ROWS_MAX_MAX}"))
}

fn train(config: &Config) -> Checked {
    let train = &config.train;
    let cuda = train.device.strip_prefix("cuda:").is_some_and(|index| index.parse::<u16>().is_ok());
    let known = cuda || train.device == "cpu" || train.device == "tch-cpu";
    need_text(known, "train.device", &train.device, "expected `cpu`, `tch-cpu` or `cuda:N`, N counting devices from 0")?;
    need(train.threads <= THREADS_MAX, "train.threads", train.threads, format!("expected 0 (one per core) to {THREADS_MAX}"))?;
    let rows = train.batch_rows;
    need((1..=BATCH_ROWS_MAX).contains(&rows), "train.batch_rows", rows, format!("expected 1 to {BATCH_ROWS_MAX}"))?;
    positive_span("train.linger", train.linger)?;
    if let Some(rate) = train.base_rate {
        need(rate > 0.0 && rate < 1.0, "train.base_rate", rate, "expected a share above 0 and below 1")?;
    }
    let keep = train.negatives.keep;
    need(keep > 0.0 && keep <= 1.0, "train.negatives.keep", keep, "expected a share above 0, up to 1 for all")?;
    hint(&train.hint)?;
    not_negative("train.teacher.weight", train.teacher.weight)?;
    positive("train.teacher.temperature", train.teacher.temperature)?;
    let optimizer = &train.optimizer;
    positive("train.optimizer.dense_lr", optimizer.dense_lr)?;
    for (key, beta) in [("train.optimizer.beta1", optimizer.beta1), ("train.optimizer.beta2", optimizer.beta2)] {
        need((0.0..1.0).contains(&beta), key, beta, "expected 0 or above and below 1")?;
    }
    positive("train.optimizer.epsilon", optimizer.epsilon)?;
    not_negative("train.optimizer.clip_norm", optimizer.clip_norm)?;
    at_least("train.optimizer.decay_steps", optimizer.decay_steps, 1)?;
    positive("train.optimizer.embedding_lr", optimizer.embedding_lr.into())?;
    positive("train.optimizer.embedding_initial_accumulator", optimizer.embedding_initial_accumulator.into())?;
    let l1 = optimizer.embedding_l1;
    not_negative("train.optimizer.embedding_l1", l1.into())?;
    let ftrl = optimizer.embedding == EmbeddingOptimizer::Ftrl;
    need(ftrl || l1 == 0.0, "train.optimizer.embedding_l1", l1, "only train.optimizer.embedding = \"ftrl\" knows it; expected 0")?;
    not_negative("train.optimizer.embedding_l2", optimizer.embedding_l2.into())
}

fn hint(hint: &HintConfig) -> Checked {
    not_negative("train.hint.weight", hint.weight.into())?;
    let Some(temperature) = hint.temperature else { return Ok(()) };
    let key = "train.hint.temperature";
    need(hint.kind == HintKind::Kd, key, temperature, "only train.hint.kind = \"kd\" has a temperature; leave it out")?;
    positive(key, temperature)
}

/// Switches of the learning rule that exclude one another.
fn arms(config: &Config) -> Checked {
    let (model, train) = (&config.model, &config.train);
    let both = train.heads == Heads::Both;
    need(both || model.sharing, "model.sharing", "false", "one head alone has nothing to share: expected true, or train.heads = \"both\"")?;
    let allowed = "it measures what the hint is worth on the trunk that light and booster share: expected false, or train.heads = \"both\" and \
                   model.sharing = true";
    need(!model.control || (both && model.sharing), "model.control", "true", allowed)?;
    let weight = train.teacher.weight;
    need(
        both || weight == 0.0,
        "train.teacher.weight",
        weight,
        "it is a booster that teaches light: expected 0, or train.heads = \"both\"",
    )?;
    let joint = train.booster_first.samples == 0;
    let allowed = "it needs light and booster: expected 0, or train.heads = \"both\"";
    need(joint || both, "train.booster_first.samples", train.booster_first.samples, allowed)?;
    let whole = train.shared_grad == SharedGrad::All;
    let allowed = "it stops light at a trunk that it shares and trains together with the booster: expected \"all\", or train.heads = \"both\", \
                   model.sharing = true and train.booster_first.samples = 0";
    need(whole || (both && model.sharing && joint), "train.shared_grad", serde_json::json!(train.shared_grad), allowed)
}

fn evaluate(config: &Config) -> Checked {
    let evaluate = &config.evaluate;
    for (index, window) in evaluate.windows.iter().enumerate() {
        let key = format!("evaluate.windows[{index}]");
        positive_span(&key, *window)?;
        need(!evaluate.windows[..index].contains(window), &key, window, "expected a length that is not in the list already")?;
    }
    let kept = evaluate.user_impressions_max;
    need(
        (2..=USER_IMPRESSIONS_CAP).contains(&kept),
        "evaluate.user_impressions_max",
        kept,
        format!("expected 2 to {USER_IMPRESSIONS_CAP}"),
    )?;
    at_least("evaluate.windows_kept", evaluate.windows_kept, 1)?;
    let delta = evaluate.drift_delta;
    need((0.0..1.0).contains(&delta), "evaluate.drift_delta", delta, "expected 0 (off) or above, and below 1")?;
    let Some(from) = &evaluate.from else { return Ok(()) };
    need_text(from.parse::<jiff::Timestamp>().is_ok(), "evaluate.from", from, "expected a time in RFC 3339, e.g. \"2026-01-31T12:00:00Z\"")
}

fn state(config: &Config) -> Checked {
    need_text(!config.state.dir.as_os_str().is_empty(), "state.dir", &config.state.dir, "expected a directory's path")?;
    let cache = config.state.sled_cache;
    need(cache >= SLED_CACHE_MIN, "state.sled_cache", cache, format!("expected at least {SLED_CACHE_MIN}"))?;
    positive_span("state.export_every", config.state.export_every)?;
    at_least("checkpoint.every_samples", config.checkpoint.every_samples, 1)?;
    positive_span("checkpoint.every", config.checkpoint.every)?;
    at_least("checkpoint.full_every", config.checkpoint.full_every, 1)?;
    at_least("checkpoint.keep", config.checkpoint.keep, 1)
}

fn publish(config: &Config) -> Checked {
    let publish = &config.publish;
    at_least("publish.every_samples", publish.every_samples, 1)?;
    positive_span("publish.every", publish.every)?;
    let chunk = publish.chunk;
    need(
        (CHUNK_MIN..=CHUNK_MAX).contains(&chunk),
        "publish.chunk",
        chunk,
        format!("expected {CHUNK_MIN} to {CHUNK_MAX}: a record must fit the broker"),
    )?;
    let every = publish.full_every;
    need((1..=FULL_EVERY_MAX).contains(&every), "publish.full_every", every, format!("expected 1 to {FULL_EVERY_MAX}"))?;
    let store = publish.claim_check.as_str();
    let known = store.is_empty() || ["s3://", "file:///"].iter().any(|scheme| store.len() > scheme.len() && store.starts_with(scheme));
    need_text(known, "publish.claim_check", store, "expected s3://bucket/prefix, file:///directory, or empty for none")?;
    need(publish.keep >= 2, "publish.keep", publish.keep, "expected at least 2, or there is nothing to roll back to")?;
    let probes = publish.probes;
    need((1..=PROBES_MAX).contains(&probes), "publish.probes", probes, format!("expected 1 to {PROBES_MAX}"))?;
    positive_span("publish.expires", publish.expires)?;
    canary(&publish.canary)?;
    gates(&publish.gates)
}

fn canary(canary: &CanaryConfig) -> Checked {
    let share = canary.share;
    need((0.0..=1.0).contains(&share), "publish.canary.share", share, "expected a share of 0 (off) to 1")?;
    at_least("publish.canary.rejects", canary.rejects, 1)?;
    let waits = canary.reports > 0 || canary.delay.as_millis() > 0;
    let allowed = "there would be nothing to wait for: expected at least 1, or a publish.canary.delay above zero";
    need(share == 0.0 || waits, "publish.canary.reports", canary.reports, allowed)
}

fn gates(gates: &GatesConfig) -> Checked {
    let GatesConfig { samples, evidence, every, calibration, forgetting, .. } = *gates;
    need((2..=GATE_SAMPLES_MAX).contains(&samples), "publish.gates.samples", samples, format!("expected 2 to {GATE_SAMPLES_MAX}"))?;
    at_least("publish.gates.every", every, 1)?;
    need((2..=samples).contains(&evidence), "publish.gates.evidence", evidence, "expected 2 to publish.gates.samples")?;
    not_negative("publish.gates.significance", gates.significance)?;
    positive("publish.gates.change", gates.change)?;
    let factor = calibration.is_finite() && calibration > 1.0;
    need(factor, "publish.gates.calibration", calibration, "expected a finite factor above 1")?;
    need((0.0..=1.0).contains(&forgetting), "publish.gates.forgetting", forgetting, "expected an AUC, 0 to 1")
}

fn admin(config: &Config) -> Checked {
    let admin = &config.admin;
    need_text(!admin.socket.as_os_str().is_empty(), "admin.socket", &admin.socket, "expected a socket's path")?;
    let port = admin.http.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    need_text(admin.http.is_empty() || port, "admin.http", &admin.http, "expected `address:port`, or empty to switch it off")?;
    positive_span("admin.shutdown_deadline", admin.shutdown_deadline)?;
    positive_span("admin.stall", admin.stall)
}
