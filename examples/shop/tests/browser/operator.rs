//! The operator's page, in a window of its own.

use crate::{Result, page::Page, shop::Shop};

#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) page: Page,
}

impl Operator {
    /// In a second window of this browser.
    pub(crate) async fn beside(page: &Page, shop: &Shop) -> Result<Operator> {
        let page = page.second_window().await?;
        page.open(&shop.operator).await?;
        page.shows("#nodes").await?;
        Ok(Operator { page })
    }

    /// Returns as soon as the resize runs.
    pub(crate) async fn add_node(&self) -> Result {
        self.page.click_at_once("#add-node:not(:disabled)").await?;
        self.page.shows("#resize[data-state=running]").await?;
        Ok(())
    }

    /// Returns as soon as the resize runs.
    pub(crate) async fn remove(&self, node: &str) -> Result {
        self.page.click_at_once(&format!("{} .remove:not(:disabled)", row(node))).await?;
        self.page.shows(&format!("{}.leaving", row(node))).await?;
        self.page.shows("#resize[data-state=running]").await?;
        Ok(())
    }

    /// Kills the node's server. Returns when the page knows that it is dead.
    pub(crate) async fn kill(&self, node: &str) -> Result {
        self.page.click_at_once(&format!("{} .kill", row(node))).await?;
        self.page.shows(&format!("{}[data-state=down]", row(node))).await?;
        Ok(())
    }

    /// Starts it again, and returns when it serves.
    pub(crate) async fn start(&self, node: &str) -> Result {
        self.page.click_at_once(&format!("{} .start", row(node))).await?;
        self.page.shows(&format!("{}[data-state=up]", row(node))).await?;
        Ok(())
    }

    pub(crate) async fn is_resizing(&self) -> Result<bool> {
        let state: String =
            self.page.script("return document.querySelector('#resize').dataset.state").await?;
        Ok(state == "running")
    }

    pub(crate) async fn nodes(&self) -> Result<Vec<String>> {
        let script =
            "return [...document.querySelectorAll('#nodes tr[data-node]')].map(row => row.dataset.node)";
        self.page.script(script).await
    }
}

fn row(node: &str) -> String {
    format!("#nodes tr[data-node={node}]")
}
