//! The operator's page, in a window of its own.

use crate::{Result, page::Page, shop::Shop};

/// Whatever is read or clicked is on a page that stands still: one that renews itself may go between two looks at it. After a
/// click it renews itself again, and is waited for.
#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) page: Page,
    address: String,
}

impl Operator {
    /// In a second window of this browser.
    pub(crate) async fn beside(page: &Page, shop: &Shop) -> Result<Operator> {
        let operator = Operator { page: page.second_window().await?, address: shop.operator.clone() };
        operator.page.open(&operator.address).await?;
        operator.page.shows("#nodes").await?;
        Ok(operator)
    }

    /// Returns as soon as the resize runs.
    pub(crate) async fn add_node(&self) -> Result {
        self.click("#add-node").await?;
        self.page.shows("#resize[data-state=running]").await?;
        Ok(())
    }

    /// Returns as soon as the resize runs.
    pub(crate) async fn remove(&self, node: &str) -> Result {
        self.click(&format!("{} .remove", row(node))).await?;
        self.page.shows(&format!("{}.leaving", row(node))).await?;
        self.page.shows("#resize[data-state=running]").await?;
        Ok(())
    }

    /// Kills the node's server. Returns when the page knows that it is dead.
    pub(crate) async fn kill(&self, node: &str) -> Result {
        self.click(&format!("{} .kill", row(node))).await?;
        self.page.shows(&format!("{}[data-state=down]", row(node))).await?;
        Ok(())
    }

    /// Starts it again, and returns when it serves.
    pub(crate) async fn start(&self, node: &str) -> Result {
        self.click(&format!("{} .start", row(node))).await?;
        self.page.shows(&format!("{}[data-state=up]", row(node))).await?;
        Ok(())
    }

    pub(crate) async fn is_resizing(&self) -> Result<bool> {
        self.stand_still().await?;
        Ok(self.page.count("#resize[data-state=running]").await? > 0)
    }

    pub(crate) async fn nodes(&self) -> Result<Vec<String>> {
        self.stand_still().await?;
        let script =
            "return [...document.querySelectorAll('#nodes tr[data-node]')].map(row => row.dataset.node)";
        self.page.script(script).await
    }

    pub(crate) async fn click(&self, css: &str) -> Result {
        self.stand_still().await?;
        self.page.click(css).await
    }

    /// The page as it is now, and it stays so.
    async fn stand_still(&self) -> Result {
        self.page.open(&format!("{}/?still", self.address)).await
    }
}

fn row(node: &str) -> String {
    format!("#nodes tr[data-node={node}]")
}
