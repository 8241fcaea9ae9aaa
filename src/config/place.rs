use toml::de::{DeTable, DeValue};

/// Line and column (from 1) of the value of `key`, e.g. `schema.features[3].std`, where the file has it.
pub(super) fn position(text: &str, key: &str) -> Option<(usize, usize)> {
    let document = DeTable::parse(text).ok()?;
    let start = in_table(document.get_ref(), key)?;
    let before = text.get(..start)?;
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Some((before.matches('\n').count() + 1, before[line_start..].chars().count() + 1))
}

/// Keys may hold dots themselves (librdkafka's do), so each key of the table is tried as a prefix.
fn in_table(table: &DeTable<'_>, path: &str) -> Option<usize> {
    table.iter().find_map(|(key, value)| {
        let rest = path.strip_prefix(key.get_ref().as_ref())?;
        if rest.is_empty() { Some(value.span().start) } else { in_value(value.get_ref(), rest) }
    })
}

fn in_value(value: &DeValue<'_>, path: &str) -> Option<usize> {
    match value {
        DeValue::Table(table) => in_table(table, path.strip_prefix('.')?),
        DeValue::Array(values) => {
            let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
            let value = values.get(index.parse::<usize>().ok()?)?;
            if rest.is_empty() { Some(value.span().start) } else { in_value(value.get_ref(), rest) }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_where_they_stand() {
        let text = "name = \"a\"\n[kafka.properties]\n\"ssl.ca\" = \"x\"\n[schema]\ntime = \"é\" # t\n[[schema.features]]\nname = \"n\"\nstd = 0\n\
                    [train]\noptimizer = { dense_lr = 0, b = [1, 2] }\n";
        assert_eq!(position(text, "name"), Some((1, 8)));
        assert_eq!(position(text, "kafka.properties.ssl.ca"), Some((3, 12)));
        assert_eq!(position(text, "schema.time"), Some((5, 8)));
        assert_eq!(position(text, "schema.features[0].std"), Some((8, 7)));
        assert_eq!(position(text, "train.optimizer.b[1]"), Some((10, 37)));
        assert_eq!(position(text, "train.optimizer.c"), None);
        assert_eq!(position(text, "schema.features[1].std"), None);
        assert_eq!(position("not toml", "name"), None);
    }
}
