// Acts on a circuit: asked for twice, sent with the token, which is kept in this page's memory and nowhere else.

const steeringWanted = document.documentElement.dataset.steering === "yes";

const ACTS = {
  force_open: { label: "Force open", words: "Every call is refused until it is reset. For a policy with a circuit for each key: all keys known now." },
  disable: { label: "Disable", words: "Every call passes and none is weighed, until it is reset." },
  reset: { label: "Reset", words: "The circuit is closed, with an empty window." },
};

let token = "";
let asked = null;

function askToSteer(policy, act) {
  asked = { policy, act };
  say(get("steer-name"), `${ACTS[act].label}: ${policy}`);
  say(get("steer-words"), ACTS[act].words);
  say(get("steer-yes"), ACTS[act].label);
  say(get("steer-error"), "");
  show(get("steer-token"), !token);
  get("token").value = "";
  get("steer").showModal();
}

async function steer() {
  const given = token || get("token").value;
  try {
    const answer = await fetch("steer", {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${given}` },
      body: JSON.stringify(asked),
    });
    const data = await answer.json();
    if (!answer.ok) {
      if (answer.status === 401) token = "";
      show(get("steer-token"), !token);
      say(get("steer-error"), answer.status === 401 ? "This is not the token." : data.error);
      return;
    }
    token = given;
    get("steer").close();
    refresh();
  } catch {
    say(get("steer-error"), "No answer. Nothing is known to have changed.");
  }
}

get("steer").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  steer();
});
get("steer-no").addEventListener("click", () => get("steer").close());
