//! `POST /units/{name}/restart`

use axum::{extract::State, http::StatusCode};
use fleet_core::{
    model::MachineId,
    ops::{Operation, Refusal, RestartUnit},
    unit::UnitName,
};

use crate::{
    http::{
        ApiError, Shared,
        peer::By,
        request::{Name, Query},
        status_of,
    },
    registry::Store,
};

/// `POST /units/{name}/restart?upTo=MACHINE&generation=NUMBER`
pub async fn restart<S: Store>(
    State(api): Shared<S>,
    By(actor): By,
    Name(name): Name,
    query: Query,
) -> Result<StatusCode, ApiError> {
    let name = UnitName::new(&name).map_err(|_| Refusal::UnitMissing)?;
    let up_to = query.get("upTo").map(|id| MachineId::new(&id)).transpose();
    let generation = query.get("generation").map(|number| number.parse()).transpose();
    let request = RestartUnit {
        name,
        up_to: up_to.map_err(|error| ApiError::bad_request(&format!("upTo in query: {error}")))?,
        generation: generation.map_err(|_| ApiError::bad_request("generation in query is no number"))?,
    };
    api.carry_out(&actor, &Operation::Restart(request)).await.map(status_of)
}
