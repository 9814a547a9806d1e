//! What the TOML parser found wrong, as it may be shown: with the key and a fix, and without what may be a secret.

/// Whatever has one of these in its name or in that of its table.
const SECRET: [&str; 5] = ["secret", "password", "api_keys", "users", "token"];

/// Keys that belong to no table.
const ABOVE_ALL_TABLES: [&str; 3] = ["log", "advertise", "workers"];

/// The parser's message about `text`. It quotes the line, unless what stands there may be (part of) a secret.
pub fn explain(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let (before, after) = text.split_at(at);
    let (above, begun) = before.rsplit_once('\n').unwrap_or(("", before));
    let line = [begun, after.lines().next().unwrap_or_default()].concat();
    let begins = !goes_on(above) && (key_of(&line).is_some() || header_of(&line).is_some());
    // A line that begins nothing goes on with the value of a key further up.
    let key = if begins { key_of(&line) } else { above.lines().rev().find_map(key_of) };
    let table = if header_of(&line).is_some() { None } else { above.lines().rev().find_map(header_of) };
    let concerns = |word| [Some(line.as_str()), table, key].into_iter().flatten().any(|text| text.contains(word));
    let message = if begins && !SECRET.into_iter().any(concerns) {
        error.to_string().trim_end().to_owned()
    } else {
        let whole = error.to_string();
        let place = whole.lines().next().unwrap_or_default();
        let names: Vec<&str> = [table, key].into_iter().flatten().collect();
        let name = if names.is_empty() { String::new() } else { format!("{} = …: ", names.join(".")) };
        format!("{place}: {name}{}", without_values(error.message()))
    };
    match fix(error.message(), table.is_some()) {
        Some(fix) => format!("{message}; {fix}"),
        None => message,
    }
}

/// Whether the next line belongs to a list that has begun above. A secret without quotation marks looks like a key there.
fn goes_on(above: &str) -> bool {
    let mut lines = above.lines().rev().map(str::trim);
    let last = lines.find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default();
    let uncommented = last.split('#').next().unwrap_or_default().trim_end();
    [last, uncommented].into_iter().any(|line| line.ends_with(['[', ',']))
}

/// `[table]` or `[[table]]`.
fn header_of(line: &str) -> Option<&str> {
    let name = line.trim_start().strip_prefix('[')?;
    let (name, _) = name.trim_start_matches('[').split_once(']')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-. ".contains(c));
    is_name.then(|| name.trim())
}

/// What stands before the equals sign, where a line begins with a key.
fn key_of(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    let is_key = |part: &str| {
        let bare = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        let part = part.trim();
        bare(part) || part.strip_prefix('"').and_then(|part| part.strip_suffix('"')).is_some_and(bare)
    };
    key.split('.').all(is_key).then(|| key.trim())
}

/// The parser's message without the values in it: they stand in quotation marks, and numbers after the name of their type.
fn without_values(message: &str) -> String {
    let every_second = |text: &str, mark: char| {
        let parts = text.split(mark).enumerate();
        let told: Vec<&str> = parts.map(|(index, part)| if index % 2 == 1 { "…" } else { part }).collect();
        told.join(&mark.to_string())
    };
    let told = every_second(message, '"');
    let is_about_a_value = message.starts_with("invalid type") || message.starts_with("invalid value");
    if is_about_a_value { every_second(&told, '`') } else { told }
}

/// What to write instead, where the message does not say it.
fn fix(message: &str, is_in_table: bool) -> Option<String> {
    let expects = |what: &str| message.contains(&format!("expected {what}"));
    let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    let fix = if let Some(field) = unknown {
        if !is_in_table || !ABOVE_ALL_TABLES.contains(&field) {
            return None;
        }
        "it belongs above the first [table]"
    } else if message.contains("duplicate key") {
        "it stands further up already; write the lines there"
    } else if expects("a sequence") {
        r#"write a list, such as ["…"]"#
    } else if expects("a string") || message.contains("invalid float") || message.contains("must be quoted") {
        "write text and addresses in quotation marks"
    } else if expects("a boolean") {
        "write true or false"
    } else if ["usize", "u64", "u32", "u16", "u8"].into_iter().any(expects) {
        "write a whole number from 0"
    } else if expects("struct") || expects("a map") {
        "it is a table; write its name in brackets and the keys below"
    } else {
        return None;
    };
    Some(fix.to_owned())
}
