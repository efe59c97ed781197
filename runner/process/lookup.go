package process

import (
	"cmp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// LookPath finds a program in a PATH as execvp(3) does. It returns ENOENT for a missing program, and EACCES for one
// that may not be executed. exec.LookPath returns the same error for both, and refuses programs in the current
// directory. A name with a slash is a path, which LookPath returns unchanged.
func LookPath(name, path string) (string, error) {
	if name == "" {
		return "", unix.ENOENT
	}
	if strings.Contains(name, "/") {
		return name, nil // execve(2) reports any error
	}
	found := error(unix.ENOENT)
	for _, file := range candidates(name, path) {
		var st unix.Stat_t
		switch err := unix.Stat(file, &st); {
		case err == unix.EACCES:
			found = err // as execvp(3) does, because the file may exist
		case err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR:
		case unix.Access(file, unix.X_OK) == nil:
			return file, nil
		default:
			found = unix.EACCES
		}
	}
	return "", found
}

// candidates returns the paths at which a program may be.
func candidates(program, search string) (paths []string) {
	if program == "" || strings.Contains(program, "/") {
		return []string{program}
	}
	for dir := range strings.SplitSeq(search, ":") {
		paths = append(paths, cmp.Or(dir, ".")+"/"+program)
	}
	return paths
}

// SearchPath returns the value of PATH in an environment, or the default of execvp(3) if PATH is not set.
func SearchPath(env []string) string {
	if index(env, "PATH") < 0 {
		return "/bin:/usr/bin"
	}
	return Getenv(env, "PATH")
}

// Getenv returns the value of a variable in an environment, or "".
func Getenv(env []string, name string) string {
	if i := index(env, name); i >= 0 {
		return env[i][len(name+"="):]
	}
	return ""
}

// Setenv returns a copy of the environment with a variable set. A variable that was set before keeps its position.
func Setenv(env []string, name, value string) []string {
	env = slices.Clone(env)
	if i := index(env, name); i >= 0 {
		env[i] = name + "=" + value
		return env
	}
	return append(env, name+"="+value)
}

// index returns the position of the first variable with a name, as for getenv(3), or -1.
func index(env []string, name string) int {
	return slices.IndexFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
}
