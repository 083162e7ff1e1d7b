//! Renaming rules: a prefix for a prefix, then a leaf for a leaf.

use std::collections::HashMap;

/// Pairs of what a module is called inside a block, here and there.
pub(crate) type Leaves = &'static [(&'static str, &'static str)];

/// One module of the model under both names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    ldm: String,
    diffusers: String,
    /// Names below the prefix; empty when they are the same in both dialects.
    leaves: Leaves,
}

/// The names of a component in both dialects.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    rows: Vec<Rule>,
    by_ldm: HashMap<String, usize>,
    by_diffusers: HashMap<String, usize>,
}

impl Rules {
    /// Adds a module whose inner names are the same in both dialects.
    pub(crate) fn same(&mut self, ldm: impl Into<String>, diffusers: impl Into<String>) {
        self.with_leaves(ldm, diffusers, &[]);
    }

    /// Adds a module whose inner names differ by `leaves`.
    pub(crate) fn with_leaves(
        &mut self,
        ldm: impl Into<String>,
        diffusers: impl Into<String>,
        leaves: Leaves,
    ) {
        let rule = Rule {
            ldm: ldm.into(),
            diffusers: diffusers.into(),
            leaves,
        };
        let index = self.rows.len();
        self.by_ldm.insert(rule.ldm.clone(), index);
        self.by_diffusers.insert(rule.diffusers.clone(), index);
        self.rows.push(rule);
    }

    /// diffusers' name for one of the original dialect; `None` when no rule knows it.
    pub(crate) fn to_diffusers(&self, name: &str) -> Option<String> {
        let (index, rest) = longest_prefix(&self.by_ldm, name)?;
        let rule = &self.rows[index];
        let leaf = replace_leaf(rest, rule.leaves.iter().map(|&(from, to)| (from, to)))?;
        Some(format!("{}.{leaf}", rule.diffusers))
    }

    /// The original name for one of diffusers'; `None` when no rule knows it.
    #[cfg(test)]
    pub(crate) fn to_ldm(&self, name: &str) -> Option<String> {
        let (index, rest) = longest_prefix(&self.by_diffusers, name)?;
        let rule = &self.rows[index];
        let leaf = replace_leaf(rest, rule.leaves.iter().map(|&(to, from)| (from, to)))?;
        Some(format!("{}.{leaf}", rule.ldm))
    }
}

/// The rule with the longest prefix of whole names, and what follows it.
fn longest_prefix<'a>(rules: &HashMap<String, usize>, name: &'a str) -> Option<(usize, &'a str)> {
    let mut end = name.len();
    while let Some(dot) = name[..end].rfind('.') {
        if let Some(&index) = rules.get(&name[..dot]) {
            return Some((index, &name[dot + 1..]));
        }
        end = dot;
    }
    None
}

/// Replaces the leaf at the beginning of `rest`.
fn replace_leaf<'a>(
    rest: &str,
    leaves: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
) -> Option<String> {
    if leaves.len() == 0 {
        return Some(rest.to_owned());
    }
    leaves.into_iter().find_map(|(from, to)| {
        let after = rest.strip_prefix(from)?;
        after.starts_with('.').then(|| format!("{to}{after}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_of_whole_names_decides() {
        let mut rules = Rules::default();
        rules.same("block.1", "down.1");
        rules.with_leaves(
            "block.1.0",
            "down.1.resnet",
            &[("in.0", "norm1"), ("in.2", "conv1")],
        );
        assert_eq!(
            rules.to_diffusers("block.1.0.in.2.weight").unwrap(),
            "down.1.resnet.conv1.weight"
        );
        assert_eq!(
            rules.to_diffusers("block.1.1.weight").unwrap(),
            "down.1.1.weight"
        );
        assert_eq!(rules.to_diffusers("block.10.weight"), None);
        assert_eq!(rules.to_diffusers("block.1.0.in.20.weight"), None);
        assert_eq!(
            rules.to_ldm("down.1.resnet.norm1.bias").unwrap(),
            "block.1.0.in.0.bias"
        );
        assert_eq!(rules.to_ldm("elsewhere"), None);
    }
}
