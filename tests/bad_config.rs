//! A configuration that cannot be is refused with a message that names the key, its value, what is allowed and where it stands.

use rocket_launching::config::{Config, ConfigError, load, parse};

const GOOD: &str = r#"name = "ads"

[topics]
mode = "joined"

[schema]
time = "ts_ms"
user = "user_id"
item = "item_id"
impression = "impression_id"

[[schema.features]]
name = "item_id"
kind = "categorical"

[[schema.features]]
name = "price"
kind = "buckets"
bounds = [1.0, 2.0]
"#;

fn with_environment(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    parse(text, "test.toml", variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

/// The error of the good file with one thing changed; all of `named` must stand in its text.
fn refused(change: (&str, &str), named: &[&str]) -> ConfigError {
    let text = GOOD.replace(change.0, change.1);
    assert_ne!(text, GOOD, "{change:?} changes nothing");
    let error = with_environment(&text, &[]).expect_err(change.1);
    for word in named {
        assert!(error.to_string().contains(word), "{change:?} must name {word}:\n{error}");
    }
    error
}

/// The error of the good file with lines added below it; all of `named` must stand in its text.
fn refused_with(more: &str, named: &[&str]) -> ConfigError {
    let text = format!("{GOOD}{more}");
    let error = with_environment(&text, &[]).expect_err(more);
    for word in named {
        assert!(error.to_string().contains(word), "{more} must name {word}:\n{error}");
    }
    error
}

#[test]
fn the_good_file_is_good() {
    with_environment(GOOD, &[]).expect("the file that the others differ from");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = load(std::path::Path::new("no/such/file.toml"), std::iter::empty()).expect_err("not there");
    assert!(matches!(error, ConfigError::Read { .. }));
    assert!(error.to_string().contains("no/such/file.toml") && error.to_string().contains("--config"), "{error}");
}

#[test]
fn what_is_no_toml_has_line_and_column() {
    let error = refused(("mode = \"joined\"", "mode = joined"), &["test.toml", "line 4", "column 8"]);
    assert!(matches!(error, ConfigError::Parse { .. }));
}

#[test]
fn an_unknown_key_is_named_with_what_is_allowed_and_its_line() {
    refused(("time = ", "tme = "), &["test.toml", "schema", "`tme`", "`time`", "line 7", "column 1"]);
    refused_with("[train]\nbatch_size = 5\n", &["train", "`batch_size`", "`batch_rows`", "line 21"]);
    refused_with("[trian]\nbatch_rows = 5\n", &["`trian`", "`train`", "line 20"]);
}

#[test]
fn a_missing_key_is_named() {
    refused(("time = \"ts_ms\"", ""), &["schema", "`time`", "line 6"]);
    refused(("name = \"ads\"", ""), &["`name`"]);
}

#[test]
fn a_wrong_type_or_unit_is_named() {
    refused_with("[train]\nbatch_rows = \"many\"\n", &["train.batch_rows", "\"many\"", "usize", "line 21"]);
    refused_with("[train]\nbatch_rows = -1\n", &["train.batch_rows", "-1", "line 21"]);
    refused_with("[join]\nwindow = \"10 parsecs\"\n", &["join.window", "10 parsecs", "\"10s\"", "line 21"]);
    refused_with("[join]\nwindow = 10\n", &["join.window", "10", "\"10s\"", "line 21"]);
    refused_with("[publish]\nchunk = \"big\"\n", &["publish.chunk", "big", "\"64MiB\"", "line 21"]);
    refused_with("[train.hint]\nkind = \"mse\"\n", &["train.hint.kind", "mse", "`logits_mse`", "`prob_mse`", "`kd`", "line 21"]);
    refused_with(
        "[train.optimizer]\nembedding = \"sgd\"\n",
        &["train.optimizer.embedding", "sgd", "`rowwise_adagrad`", "`ftrl`", "line 21"],
    );
    refused(("\"joined\"", "\"both\""), &["topics.mode", "both", "`labelled`", "`joined`", "line 4"]);
}

#[test]
fn a_feature_with_a_key_of_another_kind_is_named() {
    refused(
        ("kind = \"categorical\"", "kind = \"categorical\"\nbounds = [1]"),
        &["`item_id`", "`categorical`", "`bounds`", "`column`", "line 13, column 8"],
    );
    refused(("bounds = ", "bonds = "), &["schema.features[1]", "`price`", "`bonds`", "`bounds`", "line 19"]);
    refused(("bounds = [1.0, 2.0]", ""), &["`price`", "`buckets`", "needs", "`bounds`", "line 17, column 8"]);
    refused(("\"buckets\"", "\"bins\""), &["schema.features[1]", "`price`", "bins", "`buckets`", "line 18"]);
}

#[test]
fn values_that_cannot_be_are_named_with_their_place() {
    for (more, named) in [
        ("[train]\nbatch_rows = 0\n", ["train.batch_rows", "0", "1 to", "line 21, column 14"].as_slice()),
        ("[train]\nlinger = \"0s\"\n", &["train.linger", "0s", "1ms", "line 21"]),
        ("[train]\ndevice = \"gpu\"\n", &["train.device", "\"gpu\"", "cuda:N", "line 21"]),
        ("[train]\ndevice = \"cuda:\"\n", &["train.device", "\"cuda:\"", "cuda:N", "line 21"]),
        ("[train.hint]\nweight = -0.1\n", &["train.hint.weight", "-0.1", "zero or above", "line 21"]),
        ("[train.hint]\nweight = inf\n", &["train.hint.weight", "inf", "finite", "line 21"]),
        ("[train]\nheads = \"light\"\n", &["model.control", "true", "train.heads = \"both\""]),
        ("[model]\ncontrol = true\nsharing = false\n", &["model.control", "true", "model.sharing = true", "line 21"]),
        ("[model]\nsharing = false\n[train]\nheads = \"booster\"\n", &["model.sharing", "false", "train.heads", "line 21"]),
        (
            "[model]\ncontrol = false\nsharing = false\n[train]\nshared_grad = \"no_hint\"\n",
            &["train.shared_grad", "no_hint", "model.sharing = true", "line 24"],
        ),
        (
            "[model]\ncontrol = false\n[train]\nheads = \"light\"\nbooster_first.samples = 9\n",
            &["train.booster_first.samples", "9", "train.heads = \"both\"", "line 24"],
        ),
        ("[train.hint]\ntemperature = 4.0\n", &["train.hint.temperature", "4", "\"kd\"", "line 21"]),
        ("[train.hint]\nkind = \"kd\"\ntemperature = 0.0\n", &["train.hint.temperature", "0", "above zero", "line 22"]),
        ("[train.hint]\nkind = \"kd\"\ntemperature = inf\n", &["train.hint.temperature", "inf", "finite", "line 22"]),
        ("[train]\nbase_rate = 1.0\n", &["train.base_rate", "1", "below 1", "line 21"]),
        ("[join]\nemit = \"early\"\nearly = \"es_dfm\"\n", &["join.wait", "none", "join.window = 10m"]),
        ("[join]\nemit = \"early\"\nwait = \"1m\"\n", &["join.wait", "1m", "join.early = \"es_dfm\"", "line 22"]),
        ("[join]\nemit = \"early\"\nearly = \"es_dfm\"\nwait = \"10m\"\n", &["join.wait", "10m", "below join.window = 10m", "line 23"]),
        ("[join]\nemit = \"early\"\n[train.negatives]\nkeep = 0.5\n", &["train.negatives.keep", "0.5", "join.emit", "line 23"]),
        (
            "[join]\nemit = \"early\"\n[train.hint]\nschedule = \"health\"\n",
            &["train.hint.schedule", "\"health\"", "\"constant\"", "line 23"],
        ),
        ("[train]\nnegatives.keep = 0.0\n", &["train.negatives.keep", "0", "above 0", "line 21"]),
        ("[train.negatives]\nkeep = 1.5\n", &["train.negatives.keep", "1.5", "up to 1", "line 21"]),
        ("[train]\nbase_rate = nan\n", &["train.base_rate", "NaN", "above 0", "line 21"]),
        ("[train.optimizer]\nclip_norm = -1.0\n", &["train.optimizer.clip_norm", "-1", "zero or above", "line 21"]),
        ("[train.optimizer]\ndecay_steps = 0\n", &["train.optimizer.decay_steps", "0", "at least 1", "line 21"]),
        ("[train.optimizer]\ndense_lr = 0.0\n", &["train.optimizer.dense_lr", "0", "above zero", "line 21"]),
        ("[train.optimizer]\nembedding_lr = nan\n", &["train.optimizer.embedding_lr", "NaN", "finite", "line 21"]),
        ("[train.optimizer]\nembedding_l1 = 0.1\n", &["train.optimizer.embedding_l1", "0.1", "\"ftrl\"", "line 21"]),
        ("[train.optimizer]\nembedding_l2 = -1.0\n", &["train.optimizer.embedding_l2", "-1", "zero or above", "line 21"]),
        ("[train.optimizer]\nbeta1 = 1.0\n", &["train.optimizer.beta1", "1", "below 1", "line 21"]),
        ("[model.embedding]\ndim = 0\n", &["model.embedding.dim", "0", "1 to", "line 21"]),
        ("[model.embedding.admission]\nprobability = 0\n", &["model.embedding.admission.probability", "0", "above 0", "line 21"]),
        ("[model.embedding.admission]\nmin_count = 2\nprobability = 0.5\n", &["admission.probability", "0.5", "min_count", "line 22"]),
        ("[model.embedding.admission]\nfilter = \"1KiB\"\n", &["model.embedding.admission.filter", "1KiB", "64KiB to 64MiB", "line 21"]),
        ("[model.embedding.expiry]\nafter = \"1m\"\n", &["model.embedding.expiry.after", "1m", "10m", "line 21"]),
        ("[model.embedding.expiry]\nrows_max = 1\n", &["model.embedding.expiry.rows_max", "1", "no limit", "line 21"]),
        ("[model]\nlight = [64, 0]\n", &["model.light[1]", "0", "width", "line 21, column 14"]),
        ("[model]\nbooster = [0]\n", &["model.booster[0]", "0", "width", "line 21"]),
        ("[model.booster_attention]\nhidden = [0]\n", &["model.booster_attention.hidden[0]", "0", "width", "line 21"]),
        ("[model.booster_cross]\nlayers = 65\n", &["model.booster_cross.layers", "65", "0 to 64", "line 21"]),
        ("[publish]\nchunk = \"1MiB\"\n", &["publish.chunk", "1MiB", "64KiB to 900KiB", "line 21"]),
        ("[publish]\nchunk = \"63KiB\"\n", &["publish.chunk", "63KiB", "64KiB to 900KiB", "line 21"]),
        ("[publish]\nprobes = 0\n", &["publish.probes", "0", "1 to 256", "line 21"]),
        ("[publish]\nprobes = 257\n", &["publish.probes", "257", "1 to 256", "line 21"]),
        ("[publish]\nfull_every = 0\n", &["publish.full_every", "0", "1 to 128", "line 21"]),
        ("[publish]\nfull_every = 129\n", &["publish.full_every", "129", "1 to 128", "line 21"]),
        ("[publish]\nclaim_check = \"ftp://x/y\"\n", &["publish.claim_check", "ftp://x/y", "s3://bucket/prefix", "line 21"]),
        ("[publish]\nkeep = 1\n", &["publish.keep", "1", "at least 2", "line 21"]),
        ("[checkpoint]\nkeep = 0\n", &["checkpoint.keep", "0", "at least 1", "line 21"]),
        ("[evaluate]\nwindows = [\"1h\", \"0s\"]\n", &["evaluate.windows[1]", "0s", "1ms", "line 21, column 18"]),
        ("[evaluate]\nwindows = [\"1h\", \"60m\"]\n", &["evaluate.windows[1]", "1h", "not in the list", "line 21"]),
        ("[evaluate]\ndrift_delta = 1.0\n", &["evaluate.drift_delta", "1", "below 1", "line 21"]),
        ("[evaluate]\nfrom = \"tomorrow\"\n", &["evaluate.from", "\"tomorrow\"", "RFC 3339", "line 21"]),
        ("[join]\nmemory = \"10m\"\n", &["join.memory", "10m", "join.window + join.grace", "line 21"]),
        ("[join]\nwindow = \"2h\"\n", &["join.memory", "1h", "join.window + join.grace"]),
        ("[admin]\nhttp = \"9464\"\n", &["admin.http", "\"9464\"", "address:port", "line 21"]),
        ("[kafka]\nbrokers = \"\"\n", &["kafka.brokers", "\"\"", "host:port", "line 21"]),
        ("[kafka.properties]\n\"enable.auto.commit\" = \"true\"\n", &["kafka.properties.enable.auto.commit", "checkpoint", "line 21"]),
        ("[kafka.properties]\n\"group.id\" = \"g\"\n", &["kafka.properties.group.id", "kafka.group", "line 21"]),
        ("[kafka.properties]\n\"auto.offset.reset\" = \"latest\"\n", &["kafka.properties.auto.offset.reset", "topics.start", "line 21"]),
    ] {
        let error = refused_with(more, named);
        assert!(matches!(error, ConfigError::Invalid { .. }), "{error}");
        assert!(error.to_string().contains("test.toml"), "{error}");
    }
}

#[test]
fn names_and_topics_are_checked() {
    refused(("\"ads\"", "\"a ds\""), &["`name`", "\"a ds\"", "letters", "line 1, column 8"]);
    refused(("\"ads\"", "\"\""), &["`name`", "letters", "line 1"]);
    refused(("mode = ", "clicks = \"a/b\"\nmode = "), &["topics.clicks", "\"a/b\"", "letters", "line 4"]);
    refused(("mode = ", "clicks = \"ads.impressions\"\nmode = "), &["topics.clicks", "topics.impressions", "its own", "line 4"]);
}

#[test]
fn the_schema_is_checked_across_keys() {
    refused(("impression = \"impression_id\"", ""), &["schema.impression", "none", "joined"]);
    refused(
        ("\"item_id\"\nkind", "\"label\"\nkind"),
        &["schema.features[0].name", "\"label\"", "no feature may read it", "line 13, column 8"],
    );
    refused(("\"price\"\n", "\"p\"\ncolumn = \"ts_ms\"\n"), &["schema.features[1].column", "\"ts_ms\"", "`hour`", "line 18"]);
    refused(("\"price\"\n", "\"impression_id\"\n"), &["schema.features[1].name", "impression", "line 17"]);
    refused(("user = \"user_id\"", "user = \"label\""), &["schema.user", "\"label\"", "line 8"]);
    refused(("\"price\"\n", "\"item_id\"\n"), &["schema.features[1].name", "item_id", "another feature", "line 17"]);
    refused(("[1.0, 2.0]", "[2.0, 2.0]"), &["schema.features[1].bounds", "[2.0, 2.0]", "above the one before", "line 19"]);
    refused(("[1.0, 2.0]", "[]"), &["schema.features[1].bounds", "at least one", "line 19"]);
    refused(
        ("kind = \"buckets\"\nbounds = [1.0, 2.0]", "kind = \"standardise\"\nmean = 0.0\nstd = 0.0"),
        &["[1].std", "0", "above zero", "line 20"],
    );
    refused(("kind = \"buckets\"\nbounds = [1.0, 2.0]", "kind = \"bag\"\nseparator = \"\""), &["[1].separator", "at least one", "line 19"]);
    refused(
        ("kind = \"buckets\"\nbounds = [1.0, 2.0]", "kind = \"hour\"\ncolumn = \"x\""),
        &["`price`", "`hour`", "no key `column`", "line 17, column 8"],
    );
    refused(
        ("bounds = [1.0, 2.0]", "bounds = [1.0, 2.0]\nembed = false\n[model]\nbooster_fm = true"),
        &["model.booster_fm", "true", "the schema has 1", "line 22"],
    );
    refused(("kind = \"buckets\"\nbounds = [1.0, 2.0]", "kind = \"bag\"\nlast = 0"), &["[1].last", "0", "at least 1", "line 19"]);
    let (head, _) = GOOD.split_once("[[schema.features]]").expect("it has features");
    let error = with_environment(&head.replace("[schema]", "[schema]\nfeatures = []"), &[]).expect_err("no features");
    assert!(error.to_string().contains("schema.features") && error.to_string().contains("at least one feature"), "{error}");
}

#[test]
fn what_a_feature_is_made_of_is_checked() {
    let buckets = "kind = \"buckets\"\nbounds = [1.0, 2.0]";
    for (keys, named) in [
        ("kind = \"cross\"\nof = [\"item_id\"]", ["[1].of", "at least two", "line 19"].as_slice()),
        ("kind = \"cross\"\nof = [\"item_id\", \"item_id\"]", &["[1].of", "\"item_id\"", "twice", "line 19"]),
        ("kind = \"cross\"\nof = [\"item_id\", \"price\"]", &["[1].of", "\"price\"", "stands before this one", "line 19"]),
        ("kind = \"cross\"", &["`price`", "needs the key `of`", "line 17"]),
        ("kind = \"click_rate\"\nof = []", &["[1].of", "at least one", "line 19"]),
        ("kind = \"click_rate\"\nof = [\"nothing\"]", &["[1].of", "\"nothing\"", "stands before this one", "line 19"]),
        ("kind = \"click_rate\"\nof = [\"item_id\"]\nprior = 0.0", &["[1].prior", "0", "above zero", "line 20"]),
        ("kind = \"click_rate\"\nof = [\"item_id\"]\nembed = false", &["`price`", "no key `embed`", "line 17"]),
        ("kind = \"log1p\"\n[[schema.features]]\nname = \"x\"\nkind = \"click_rate\"\nof = [\"price\"]", &["[2].of", "number", "line 22"]),
        ("kind = \"bag\"\n[[schema.features]]\nname = \"x\"\nkind = \"click_rate\"\nof = [\"price\"]", &["[2].of", "a bag", "line 22"]),
    ] {
        refused((buckets, keys), named);
    }
    let hidden = "[[schema.features]]\nname = \"item_id\"\nkind = \"categorical\"\nembed = false\n";
    let (head, _) = GOOD.split_once("[[schema.features]]").expect("it has features");
    let error = with_environment(&format!("{head}{hidden}"), &[]).expect_err("no input").to_string();
    assert!(error.contains("schema.features") && error.contains("embed = false"), "{error}");
}

#[test]
fn a_table_is_shared_with_features_that_have_one_of_their_own() {
    let buckets = "kind = \"buckets\"\nbounds = [1.0, 2.0]";
    for (keys, named) in [
        ("kind = \"bag\"\ntable = \"\"", ["[1].table", "\"\"", "not empty", "line 19"].as_slice()),
        ("kind = \"log1p\"\ntable = \"item_id\"", &["`price`", "`log1p`", "no key `table`", "line 17"]),
        (
            "kind = \"bag\"\ntable = \"x\"\n[[schema.features]]\nname = \"x\"\nkind = \"categorical\"\ntable = \"item_id\"",
            &["[1].table", "\"x\"", "\"item_id\"", "line 19"],
        ),
        (
            "kind = \"bag\"\ntable = \"x\"\n[[schema.features]]\nname = \"x\"\nkind = \"log1p\"",
            &["[1].table", "\"x\"", "`log1p`", "no rows", "line 19"],
        ),
    ] {
        refused((buckets, keys), named);
    }
}

#[test]
fn a_dim_is_of_slots_and_one_for_all_features_of_a_table() {
    let buckets = "kind = \"buckets\"\nbounds = [1.0, 2.0]";
    for (keys, named) in [
        ("kind = \"bag\"\ndim = 0", ["[1].dim", "0", "1 to 4096", "line 19"].as_slice()),
        ("kind = \"hour\"\ndim = 4097", &["[1].dim", "4097", "1 to 4096", "line 19"]),
        ("kind = \"bag\"\nembed = false\ndim = 8", &["[1].dim", "8", "embed = false", "line 20"]),
        ("kind = \"log1p\"\ndim = 8", &["`price`", "`log1p`", "no key `dim`", "line 17"]),
        ("kind = \"bag\"\ntable = \"item_id\"\ndim = 8", &["[1].dim", "8", "`item_id`", "has 16", "line 20"]),
        (
            "kind = \"bag\"\ndim = 8\n[[schema.features]]\nname = \"x\"\nkind = \"bag\"\ntable = \"price\"",
            &["[1].dim", "8", "`x`", "has 16", "line 19"],
        ),
        ("kind = \"bag\"\ndim = 8\n[model]\nbooster_fm = true", &["model.booster_fm", "one dim", "line 21"]),
    ] {
        refused((buckets, keys), named);
    }
}

#[test]
fn attention_is_over_a_sequence_with_one_target_of_its_dim() {
    let buckets = "kind = \"buckets\"\nbounds = [1.0, 2.0]";
    let pair = |sequence: &str, target: &str| format!("{{ sequence = \"{sequence}\", target = \"{target}\" }}");
    let bag = "kind = \"bag\"\nlast = 3";
    for (feature, pairs, named) in [
        (bag, vec![pair("nothing", "item_id")], ["of[0].sequence", "\"nothing\"", "with embeddings"]),
        ("kind = \"bag\"", vec![pair("price", "item_id")], ["of[0].sequence", "\"price\"", "a bag with `last`"]),
        ("kind = \"bag\"\nlast = 2000", vec![pair("price", "item_id")], ["of[0].sequence", "2000", "at most 1024"]),
        (bag, vec![pair("price", "nothing")], ["of[0].target", "\"nothing\"", "with embeddings"]),
        (bag, vec![pair("price", "price")], ["of[0].target", "\"price\"", "several ids"]),
        ("kind = \"bag\"\nlast = 3\ndim = 8", vec![pair("price", "item_id")], ["of[0].target", "dim is 16, that of `price` 8", "the same"]),
        (bag, vec![pair("price", "item_id"); 2], ["of[1].target", "\"item_id\"", "`price` already"]),
    ] {
        let keys = format!("{feature}\n[model.booster_attention]\nof = [{}]", pairs.join(", "));
        refused((buckets, &keys), &named);
    }
    let good = format!("{bag}\n[model.booster_attention]\nof = [{}]", pair("price", "item_id"));
    let config = with_environment(&GOOD.replace(buckets, &good), &[]).expect("a good pair");
    assert_eq!(config.model.booster_attention.hidden, [36]);
}

#[test]
fn the_environment_is_laid_over_the_file() {
    let config = with_environment(
        GOOD,
        &[
            ("ROCKET__TRAIN__BATCH_ROWS", "512"),
            ("ROCKET__TRAIN__HINT__WEIGHT", "0"),
            ("ROCKET__TRAIN__DEVICE", "cuda:1"),
            ("ROCKET__MODEL__LIGHT", "[7, 5]"),
            ("ROCKET__JOIN__WINDOW", "5m"),
            ("ROCKET__NAME", "123"),
            ("ROCKET__KAFKA__PROPERTIES__SASL_PASSWORD", "\"007\""),
            ("ROCKET_OTHER", "not ours"),
            ("HOME", "/root"),
        ],
    )
    .expect("a good environment");
    assert_eq!((config.train.batch_rows, config.train.hint.weight, config.train.device.as_str()), (512, 0.0, "cuda:1"));
    assert_eq!(config.model.light, [7, 5]);
    assert_eq!(config.join.window.as_millis(), 300_000);
    assert_eq!(config.name, "123");
    assert_eq!(config.kafka.properties["sasl.password"], "\"007\"");
}

#[test]
fn a_bad_variable_is_named() {
    for (variable, value, named) in [
        ("ROCKET__TRAIN__BATCH_SIZE", "512", ["`batch_size`", "`batch_rows`"].as_slice()),
        ("ROCKET__TRIAN__BATCH_ROWS", "512", &["`trian`", "`train`"]),
        ("ROCKET__TRAIN__BATCH_ROWS", "many", &["train.batch_rows", "many", "usize"]),
        ("ROCKET__JOIN__WINDOW", "10", &["join.window", "10", "\"10s\""]),
        ("ROCKET__NAME__X", "y", &["`name`", "not a section"]),
        ("ROCKET__TRAIN", "5", &["train", "5"]),
        ("ROCKET__", "5", &["``"]),
        ("ROCKET__TRAIN__BATCH_ROWS", "0", &["train.batch_rows", "0", "1 to"]),
        ("ROCKET__KAFKA__PROPERTIES__GROUP_ID", "g", &["kafka.properties.group.id", "kafka.group"]),
    ] {
        let error = with_environment(GOOD, &[(variable, value)]).expect_err(variable).to_string();
        assert!(error.contains(variable), "must name {variable}:\n{error}");
        for word in named {
            assert!(error.contains(word), "{variable} must name {word}:\n{error}");
        }
    }
}

#[test]
fn the_file_is_checked_on_its_own_first() {
    let text = format!("{GOOD}[train]\nbatch_rows = \"many\"\n");
    let error = with_environment(&text, &[("ROCKET__TRAIN__BATCH_ROWS", "512")]).expect_err("the file is wrong");
    assert!(error.to_string().contains("test.toml") && error.to_string().contains("line 21"), "{error}");
}
