package kubernetes

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// imageScripts contains the programs in the image, by path. say appends a line with the uptime and its arguments to
// /out/log. The other programs, except pause, call say for each event.
var imageScripts = map[string]string{
	"usr/bin/say": `read up rest </proc/uptime; echo "$up $*" >>/out/log`,
	// This service has a daemon in a separate session.
	"usr/bin/serve": `httpd -p 8080 -h /www
		trap 'say stopped; exit 3' TERM; setsid sleep $MARK & say ready; while :; do wait; done`,
	// This service ignores SIGTERM.
	"usr/bin/stubborn": `trap '' TERM; setsid sleep $MARK & say ready; while :; do wait; done`,
	"usr/bin/flush":    `say cleaned $GRACEFUL_REASON $(ps -o args | grep -c "^sleep $MARK")`,
	"usr/bin/proxy":    `trap 'say proxy stopped; exit 0' TERM; say proxy ready; sleep $MARK & wait`,
	"usr/bin/leave":    `say proxy left $GRACEFUL_REASON`,
	"usr/bin/lock":     `say locked`,
	"usr/bin/unlock":   `say unlocked $GRACEFUL_REASON`,
	"usr/bin/migrate":  `setsid sleep $MARK & say ready; wait`,
	// This program runs in the sandbox of a pod. graceful doctor recognises it by its name, which is the same in every
	// Kubernetes.
	"pause": `trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done`,
}

// writeImages writes an archive with two images that contain the same files: shop:1, and pause:1 for the sandbox of a
// pod.
func writeImages(path string) error {
	layer, err := imageLayer()
	if err != nil {
		return err
	}
	files := map[string][]byte{"layer.tar": layer}
	var list []any
	for _, name := range []string{"shop", "pause"} {
		config, err := json.Marshal(map[string]any{
			"architecture": runtime.GOARCH, "os": "linux",
			"config": map[string]any{"Cmd": []string{"/pause"}, "Env": []string{"PATH=/usr/bin:/bin"}},
			"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
		})
		if err != nil {
			return err
		}
		files[name+".json"] = config
		list = append(list, map[string]any{
			"Config": name + ".json", "RepoTags": []string{"docker.io/library/" + name + ":1"}, "Layers": []string{"layer.tar"},
		})
	}
	if files["manifest.json"], err = json.Marshal(list); err != nil {
		return err
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for name, data := range files {
		addFile(w, name, data)
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, archive.Bytes(), 0o644)
}

// imageLayer returns an archive of the files of the image: graceful, a static busybox, and the scripts.
func imageLayer() ([]byte, error) {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, dir := range []string{"bin/", "usr/", "usr/bin/", "tmp/", "www/", "run/"} {
		_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755})
	}
	for name, path := range map[string]string{"usr/bin/graceful": binary, "bin/busybox": "/bin/busybox"} {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		addFile(w, name, data)
	}
	applets, err := exec.Command("/bin/busybox", "--list").Output()
	if err != nil {
		return nil, err
	}
	for _, name := range strings.Fields(string(applets)) {
		if name != "busybox" {
			_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox"})
		}
	}
	addFile(w, "www/health", []byte("ok\n"))
	for name, script := range imageScripts {
		addFile(w, name, []byte("#!/bin/sh\n"+script+"\n"))
	}
	err = w.Close()
	return layer.Bytes(), err
}

// addFile adds an executable file to an archive. If that fails, the Close of the archive returns the error.
func addFile(w *tar.Writer, name string, data []byte) {
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(data))})
	_, _ = w.Write(data)
}
