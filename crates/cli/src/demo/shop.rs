//! The shop's directory: the files of `examples/shop`, carried in this program.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The files that are there from the beginning.
const FILES: &[(&str, &str)] = &[
    ("client.yaml", include_str!("../../../../examples/shop/client.yaml")),
    ("details.yaml", include_str!("../../../../examples/shop/details.yaml")),
    ("front.yaml", include_str!("../../../../examples/shop/front.yaml")),
    ("gateway.yaml", include_str!("../../../../examples/shop/gateway.yaml")),
    ("mesh.yaml", include_str!("../../../../examples/shop/mesh.yaml")),
    ("ratings.yaml", include_str!("../../../../examples/shop/ratings.yaml")),
    ("reviews.yaml", include_str!("../../../../examples/shop/reviews.yaml")),
    ("reviews-route.yaml", ROUTE),
];

const ROUTE: &str = include_str!("../../../../examples/shop/reviews-route.yaml");
const POLICY: &str = include_str!("../../../../examples/shop/ratings-policy.yaml");

/// The policy that the demo adds: its object, as log lines name it.
pub(super) const POLICY_NAME: &str = "default/ratings-for-reviews";

/// A directory of objects that the demo edits as a user would.
pub(super) struct Shop {
    dir: PathBuf,
}

impl Shop {
    /// Writes the files.
    pub(super) fn open(dir: PathBuf) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let shop = Self { dir };
        for (name, text) in FILES {
            shop.write(name, text)?;
        }
        Ok(shop)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Moves the canary: so many of 100 requests go to v1, the others to v2.
    pub(super) fn set_canary(&self, to_v1: u32) -> anyhow::Result<()> {
        let text = ROUTE.replace("weight: 90", &format!("weight: {to_v1}"));
        let text = text.replace("weight: 10\n", &format!("weight: {}\n", 100 - to_v1));
        self.write("reviews-route.yaml", &text)
    }

    /// Adds the policy: only reviews may ask ratings.
    pub(super) fn add_policy(&self) -> anyhow::Result<()> {
        self.write("ratings-policy.yaml", POLICY)
    }

    /// As editors do: written beside, then renamed.
    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let (path, beside) = (self.dir.join(name), self.dir.join(format!(".{name}.tmp")));
        std::fs::write(&beside, text).with_context(|| format!("write {}", beside.display()))?;
        std::fs::rename(&beside, &path).with_context(|| format!("write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canary_is_found_in_the_file() {
        let dir = std::env::temp_dir().join(format!("lateen-shop-{}", std::process::id()));
        let shop = Shop::open(dir.clone()).unwrap();
        shop.set_canary(37).unwrap();
        let text = std::fs::read_to_string(dir.join("reviews-route.yaml")).unwrap();
        std::fs::remove_dir_all(dir).unwrap();
        assert!(text.contains("weight: 37\n") && text.contains("weight: 63\n"), "{text}");
    }
}
