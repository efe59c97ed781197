package integration_test

// asRoot lists what a test needs for places that only root can prepare.
var asRoot = []string{"root", "norace"}

// readOnly is the beginning of a command line. It runs the rest of the command line with $DIR as a read-only file
// system.
var readOnly = []string{"unshare", "--mount", "sh", "-c",
	`mount --bind $DIR $DIR && mount -o remount,ro,bind $DIR && exec "$@"`, "sh"}

// inShell returns the beginning of a command line. It runs a script with the rest of the command line as its arguments.
func inShell(script string) []string { return []string{"sh", "-c", script, "sh"} }

// inPIDNamespace returns the beginning of a command line. It runs inside and the rest of the command line as PID 1 of a
// PID namespace with its own /proc.
func inPIDNamespace(inside ...string) []string {
	return append([]string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc"}, inside...)
}

// withProcesses returns the beginning of a command line. In a PID namespace, but not as PID 1, it runs the rest of the
// command line as the user uid. limit is the maximum number of processes of this user.
func withProcesses(limit string, uid string) []string {
	return inPIDNamespace(append(inShell(`"$@"; exit $?`), "prlimit", "--nproc="+limit, "setpriv", "--reuid="+uid,
		"--clear-groups")...)
}

// placesOfProcesses returns the places that differ in the user, the namespaces, the limits and the programs.
func placesOfProcesses() map[string]place {
	return map[string]place{
		"default": {},
		"another user": {need: asRoot,
			around: []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}},
		"PID 1": {need: asRoot, around: inPIDNamespace(), no: []string{"parent"}, partly: []string{"guard"}},
		"another namespace's /proc": {need: asRoot,
			around: append([]string{"unshare", "--pid", "--fork", "--kill-child"}, inShell(`"$@"; exit $?`)...),
			no:     []string{"parent", "tree"}, partly: []string{"guard", "socket"}},
		"a child of an init that ends with it": {need: append([]string{"tini"}, asRoot...),
			around: inPIDNamespace("tini", "--"), no: []string{"parent"}, partly: []string{"guard"}},
		"PID 1 without its /proc": {need: asRoot, around: []string{"unshare", "--pid", "--fork", "--kill-child"},
			no: []string{"parent"}, partly: []string{"guard", "socket"}},
		"a /proc that hides others": {need: asRoot,
			around: append([]string{"unshare", "--pid", "--fork", "--kill-child", "--mount"},
				inShell(`mount -t proc -o hidepid=2 proc /proc && `+
					`setpriv --reuid=54323 --regid=54323 --clear-groups "$@"; exit $?`)...),
			no: []string{"parent"}, partly: []string{"tree", "guard"}},
		"no processes for a run": {need: asRoot, around: withProcesses("6", "54325"),
			no: []string{"guard", "parent", "processes"}},
		"files must stay empty": {need: []string{"norace", "prlimit"}, around: []string{"prlimit", "--fsize=0"},
			no: []string{"guard"}},
		"only graceful": {need: asRoot, before: "cp $GRACEFUL $DIR/graceful", around: []string{"chroot", "$DIR"},
			program: "/graceful", no: []string{"guard", "shell", "tree"}, partly: []string{"socket"}},
		"one processor": {need: []string{"taskset"}, around: []string{"taskset", "-c", "0"}},
	}
}

// placesOfStateDirectories returns the places that differ in the state directory.
func placesOfStateDirectories() map[string]place {
	return map[string]place{
		"a state directory":       {before: "mkdir -m 700 $DIR/state", stateDir: "$DIR/state"},
		"missing state directory": {stateDir: "$DIR/a/state", partly: []string{"state-directory"}},
		"state directory that others may write to": {before: "mkdir $DIR/state; chmod 777 $DIR/state", stateDir: "$DIR/state",
			no: []string{"state-directory"}},
		"link to a state directory": {before: "mkdir -m 700 $DIR/state; ln -s state $DIR/link", stateDir: "$DIR/link"},
		"dangling link as state directory": {before: "ln -s state $DIR/link", stateDir: "$DIR/link",
			no: []string{"state-directory"}},
		"file as state directory": {before: "echo >$DIR/state", stateDir: "$DIR/state", no: []string{"state-directory"}},
		"state directory below a file": {before: "echo >$DIR/file", stateDir: "$DIR/file/state",
			no: []string{"state-directory"}},
		"state directory of another user": {need: asRoot, before: "mkdir -m 700 $DIR/state; chown 54321 $DIR/state",
			stateDir: "$DIR/state", no: []string{"state-directory"}},
		"forbidden state directory": {need: asRoot, around: readOnly, stateDir: "$DIR/state",
			no: []string{"state-directory"}},
		"read-only state directory": {need: asRoot, before: "mkdir -m 700 $DIR/state", around: readOnly,
			stateDir: "$DIR/state", no: []string{"state-directory"}},
		"state directory on a full file system": {need: asRoot,
			around: append([]string{"unshare", "--mount"},
				inShell(`mount -t tmpfs -o size=4k,mode=700 none $DIR && head -c 4096 /dev/zero >$DIR/full && exec "$@"`)...),
			stateDir: "$DIR", no: []string{"state-directory"}},
		"state directory in memory": {need: asRoot,
			around:   append([]string{"unshare", "--mount"}, inShell(`mount -t tmpfs -o mode=700 none $DIR && exec "$@"`)...),
			stateDir: "$DIR", partly: []string{"state-directory"}},
	}
}
