// Shows the token to the server: the one behind # in the address, which a browser sends nowhere, or the one that is typed.
"use strict";
const form = document.querySelector("form");
const status = document.querySelector("[role=status]");

async function enter(token) {
  const answer = await fetch("/api/session", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token }),
  });
  if (answer.ok) location.replace("/");
  else status.textContent = (await answer.json()).error.message;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  enter(form.token.value);
});
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  history.replaceState(null, "", "/");
  enter(given);
}
