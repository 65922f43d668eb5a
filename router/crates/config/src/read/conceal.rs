//! Marks the values of the file that must not be shown.

use toml::de::{DeTable, DeValue};

use super::Field;
use crate::findings::{Findings, Span};
use crate::secrets::is_secret_name;
use crate::variables::is_reference;

/// Keeps every value in here from being shown.
pub(super) fn conceal(field: &Field<'_>) {
    conceal_value(field.findings(), field.value, &field.span);
}

/// Keeps every value from being shown whose key sounds like a secret, in whatever table it was put by mistake.
pub(super) fn conceal_named(findings: &Findings, table: &DeTable<'_>) {
    for (name, value) in table {
        if is_secret_name(name.get_ref()) {
            conceal_value(findings, value.get_ref(), &value.span());
        } else {
            search(findings, value.get_ref());
        }
    }
}

fn search(findings: &Findings, value: &DeValue<'_>) {
    match value {
        DeValue::Table(entries) => conceal_named(findings, entries),
        DeValue::Array(elements) => elements.iter().for_each(|element| search(findings, element.get_ref())),
        _ => {}
    }
}

/// Keeps every value in this one, at this place, from being shown.
pub(super) fn conceal_value(findings: &Findings, value: &DeValue<'_>, span: &Span) {
    match value {
        DeValue::Table(entries) => {
            entries.values().for_each(|value| conceal_value(findings, value.get_ref(), &value.span()));
        }
        DeValue::Array(elements) => {
            elements.iter().for_each(|value| conceal_value(findings, value.get_ref(), &value.span()));
        }
        DeValue::String(text) if is_reference(text) => {}
        _ => findings.secret(span),
    }
}
