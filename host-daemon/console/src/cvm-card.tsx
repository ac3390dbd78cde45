import { useRef, useState } from "preact/hooks";
import { act, type Action, type Cvm } from "./api.ts";
import { BootTimeline } from "./boot-timeline.tsx";
import { SerialLog } from "./serial-log.tsx";
import { since } from "./time.ts";

export function CvmCard(props: { cvm: Cvm; refresh: () => void; open: boolean }) {
  const { cvm, refresh } = props;
  const [failure, setFailure] = useState("");
  const [showLog, setShowLog] = useState(props.open);
  const dialog = useRef<HTMLDialogElement>(null);
  const run = (action: Action) => {
    setFailure("");
    act(action, cvm.id).catch((error: unknown) =>
      setFailure(error instanceof Error ? error.message : String(error))
    ).finally(refresh);
  };
  const state = shownState(cvm);
  const title = cvm.name || cvm.id;
  return (
    <article class="card" aria-label={title}>
      <header>
        <h2>{title}</h2>
        <span class={`pill ${state.tone}`}>{state.text}</span>
        {cvm.tee === "simulated" && <span class="pill simulated">Simulated TEE</span>}
        {cvm.tee === "tdx" && <span class="pill good">Intel TDX</span>}
        {cvm.tee === "none" && <span class="pill bad">No TEE</span>}
        <Actions cvm={cvm} run={run} remove={() => dialog.current?.showModal()} />
      </header>
      {cvm.appUrl !== undefined && (
        <p class="url">
          <a href={cvm.appUrl} target="_blank" rel="noreferrer">{cvm.appUrl}</a>
        </p>
      )}
      {failure !== "" && <p class="notice failure" role="alert">{failure}</p>}
      {cvm.bootError !== "" && <p class="notice failure" role="alert">{cvm.bootError}</p>}
      <BootTimeline phases={cvm.phases} progress={cvm.bootProgress} status={cvm.status} />
      <dl class="facts">
        <Fact name="App id" value={cvm.appId} copy />
        <Fact
          name="Instance id"
          value={cvm.instanceId || "not known yet"}
          copy={!!cvm.instanceId}
        />
        <Fact name="Compose hash" value={cvm.composeHash} copy />
        <Fact name="Image" value={cvm.image} />
        <Fact name="Started" value={cvm.startedAtMs ? `${since(cvm.startedAtMs)} ago` : "never"} />
        {cvm.accelerator && <Fact name="Runs on" value={cvm.accelerator.toUpperCase()} />}
      </dl>
      <details open={showLog} onToggle={(event) => setShowLog(event.currentTarget.open)}>
        <summary>Serial log</summary>
        {showLog && <SerialLog key={cvm.startedAtMs} id={cvm.id} />}
      </details>
      <dialog ref={dialog} aria-labelledby={`remove-${cvm.id}`}>
        <form
          method="dialog"
          onSubmit={(event) => {
            if (event.submitter?.getAttribute("value") === "remove") run("RemoveVm");
          }}
        >
          <h3 id={`remove-${cvm.id}`}>Remove {title}?</h3>
          <p>
            Its encrypted data disk is deleted with it. What the app wrote cannot be brought back.
          </p>
          <div class="buttons">
            <button type="submit" value="keep">Keep it</button>
            <button type="submit" class="danger" value="remove">Remove</button>
          </div>
        </form>
      </dialog>
    </article>
  );
}

function Actions(props: { cvm: Cvm; run: (action: Action) => void; remove: () => void }) {
  const { cvm, run, remove } = props;
  if (cvm.status === "removing") return null;
  const up = cvm.status === "running" || cvm.status === "stopping";
  return (
    <div class="buttons">
      {!up && <button type="button" onClick={() => run("StartVm")}>Start</button>}
      {up && (
        <button
          type="button"
          disabled={cvm.status === "stopping"}
          onClick={() => run("ShutdownVm")}
        >
          Shut down
        </button>
      )}
      {up && (
        <button type="button" onClick={() => run("StopVm")} title="Ends QEMU at once">Kill</button>
      )}
      <button type="button" class="danger" onClick={remove}>Remove</button>
    </div>
  );
}

function Fact(props: { name: string; value: string; copy?: boolean }) {
  const [copied, setCopied] = useState(false);
  const copy = () => {
    navigator.clipboard.writeText(props.value).then(() => {
      setCopied(true);
      setTimeout(() => setCopied(false), 1500);
    }, () => {}); // the text can still be selected
  };
  return (
    <div>
      <dt>{props.name}</dt>
      <dd>
        <span class={props.copy ? "mono" : ""} title={props.value}>{props.value}</span>
        {props.copy && (
          <button type="button" class="copy" aria-label={`Copy ${props.name}`} onClick={copy}>
            {copied ? "copied" : "copy"}
          </button>
        )}
      </dd>
    </div>
  );
}

function shownState(cvm: Cvm): { text: string; tone: string } {
  if (cvm.status === "running") {
    return cvm.bootProgress === "done" || cvm.bootProgress === "running"
      ? { text: "running", tone: "good" }
      : { text: "booting", tone: "busy" };
  }
  if (cvm.status === "exited") return { text: "exited", tone: "bad" };
  return { text: cvm.status, tone: cvm.status === "stopped" ? "idle" : "busy" };
}
