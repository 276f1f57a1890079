//! Lists that come page by page.

use fleet_api::{Machine, MachinePage, Unit, UnitPage, UnitState, UnitStatePage, paths::query};
use hyper::Method;
use serde::de::DeserializeOwned;

use crate::{Client, Result};

/// Most pages of a list, as many as a page token can number.
const MAX_PAGES: usize = 1 << 16;

/// A page of a list.
pub trait Page: DeserializeOwned {
    /// What is listed.
    type Item;
    /// What is on it, and the token of the next one.
    fn split(self) -> (Vec<Self::Item>, Option<String>);
}

macro_rules! pages {
    ($($page:ident.$items:ident: $item:ident),*) => {$(
        impl Page for $page {
            type Item = $item;
            fn split(self) -> (Vec<$item>, Option<String>) {
                (self.$items, self.next_page_token)
            }
        }
    )*};
}

pages!(MachinePage.machines: Machine, UnitPage.units: Unit, UnitStatePage.states: UnitState);

impl Client {
    /// All pages of a list that is filtered by a query.
    pub(crate) async fn list<P: Page>(&self, path: &str, filter: &[(&str, &str)]) -> Result<Vec<P::Item>> {
        let mut all = Vec::new();
        let mut token: Option<String> = None;
        for _page in 0..MAX_PAGES {
            let next = token.as_deref().map(|token| ("nextPageToken", token));
            let answer = self.pool.ask(Method::GET, &query(path, filter.iter().copied().chain(next)), None).await?;
            let (items, next) = self.decode::<P>(&answer)?.split();
            all.extend(items);
            match next.filter(|token| !token.is_empty()) {
                Some(next) if token.as_ref() != Some(&next) => token = Some(next),
                Some(_) => break,
                None => return Ok(all),
            }
        }
        Err(self.pool.unreadable("its list has no end"))
    }
}
