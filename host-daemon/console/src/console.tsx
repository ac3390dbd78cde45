import { useEffect, useRef, useState } from "preact/hooks";
import { type Cvm, followEvents, listCvms, version } from "./api.ts";
import { CvmCard } from "./cvm-card.tsx";

/** Uptimes and what no event tells are read again this often. */
const REFRESH_MS = 5000;

export function Console() {
  const [cvms, setCvms] = useState<Cvm[]>();
  const [failure, setFailure] = useState("");
  const [keyword, setKeyword] = useState("");
  const [release, setRelease] = useState("");
  const refresh = useCvms(setCvms, setFailure);
  useEffect(() => void version().then(setRelease, () => {}), []);

  const shown = (cvms ?? []).filter((cvm) =>
    [cvm.name, cvm.id, cvm.appId, cvm.image].some((text) =>
      text.toLowerCase().includes(keyword.toLowerCase())
    )
  );
  const running = (cvms ?? []).filter(({ status }) => status === "running").length;
  const simulated = (cvms ?? []).some(({ tee }) => tee === "simulated");
  return (
    <>
      <header class="top">
        <Mark />
        <div>
          <h1>dstack</h1>
          <p class="quiet">{location.host}{release && ` · ${release}`}</p>
        </div>
        <p class="counts" role="status">
          {cvms === undefined ? "…" : `${running} of ${cvms.length} running`}
        </p>
      </header>
      {simulated && (
        <p class="notice simulated">
          <strong>Simulated TEE.</strong>{" "}
          This host plays the trusted hardware itself: apps run and verify as usual, but no verdict
          says anything about real hardware.
        </p>
      )}
      {failure !== "" && <p class="notice failure" role="alert">{failure}</p>}
      <main>
        <div class="toolbar">
          <label>
            <span class="hidden">Find a CVM</span>
            <input
              type="search"
              placeholder="Find by name, id or image"
              value={keyword}
              onInput={(event) => setKeyword(event.currentTarget.value)}
            />
          </label>
        </div>
        {cvms !== undefined && cvms.length === 0 && (
          <p class="empty">
            No CVM yet. <code>dstack deploy docker-compose.yaml</code> makes the first one.
          </p>
        )}
        {cvms !== undefined && cvms.length > 0 && shown.length === 0 && (
          <p class="empty">Nothing matches “{keyword}”.</p>
        )}
        {shown.map((cvm) => (
          <CvmCard key={cvm.id} cvm={cvm} refresh={refresh} open={cvms?.length === 1} />
        ))}
      </main>
    </>
  );
}

/** Keeps the list current; returns what reads it again at once. */
function useCvms(
  setCvms: (cvms: Cvm[]) => void,
  setFailure: (text: string) => void,
): () => void {
  const busy = useRef(false);
  const again = useRef(false);
  const refresh = () => {
    if (busy.current) {
      again.current = true;
      return;
    }
    busy.current = true;
    listCvms().then(
      (cvms) => {
        setCvms(cvms);
        setFailure("");
      },
      (error: unknown) => setFailure(error instanceof Error ? error.message : String(error)),
    ).finally(() => {
      busy.current = false;
      if (!again.current) return;
      again.current = false;
      refresh();
    });
  };
  useEffect(() => {
    refresh();
    const timer = setInterval(refresh, REFRESH_MS);
    const end = followEvents(refresh);
    return () => {
      clearInterval(timer);
      end();
    };
  }, []);
  return refresh;
}

function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
      <path d="M16 2 28 8v9c0 7-5 11-12 13C9 28 4 24 4 17V8Z" />
      <path class="stroke" d="M10 13h12M10 17.5h12M13 22h6" />
    </svg>
  );
}
