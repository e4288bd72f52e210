package run

import (
	"bufio"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// privileges are whose a process takes for good.
type privileges struct {
	UID, GID int
	Groups   []int
}

// take drops everything but the privileges, in all threads. Groups go first:
// without root they cannot.
func (p privileges) take() error {
	if err := syscall.Setgroups(p.Groups); err != nil {
		return fmt.Errorf("set groups %v: %w", p.Groups, err)
	}
	if err := syscall.Setresgid(p.GID, p.GID, p.GID); err != nil {
		return fmt.Errorf("set group %d: %w", p.GID, err)
	}
	if err := syscall.Setresuid(p.UID, p.UID, p.UID); err != nil {
		return fmt.Errorf("set user %d: %w", p.UID, err)
	}
	return nil
}

// account is a user as passwd(5) and group(5) have it.
type account struct {
	privileges
	name, home, shell string
}

const passwdFile = "/etc/passwd"

func lookUp(name string) (account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return account{}, err
	}
	a := account{name: u.Username, home: u.HomeDir, shell: shellOf(u.Username)}
	ids, err := u.GroupIds()
	if err != nil {
		return account{}, fmt.Errorf("groups of user %q: %w", name, err)
	}
	for _, id := range ids {
		n, err := number(id)
		if err != nil {
			return account{}, fmt.Errorf("group of user %q: %w", name, err)
		}
		a.Groups = append(a.Groups, n)
	}
	if a.UID, err = number(u.Uid); err == nil {
		a.GID, err = number(u.Gid)
	}
	if err != nil {
		return account{}, fmt.Errorf("user %q: %w", name, err)
	}
	return a, nil
}

// number reads an id. The highest one, -1 to the kernel, would mean "leave it
// as it is".
func number(id string) (int, error) {
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return 0, err
	}
	if n > 1<<31-1 && strconv.IntSize == 32 || n == 1<<32-1 {
		return 0, fmt.Errorf("id %d cannot be taken", n)
	}
	return int(n), nil
}

// shellOf returns a user's shell, which os/user does not tell; "/bin/sh" where
// none is said, passwd(5).
func shellOf(name string) string {
	const standard = "/bin/sh"
	f, err := os.Open(passwdFile)
	if err != nil {
		return standard
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Split(lines.Text(), ":"); len(fields) == 7 && fields[0] == name && fields[6] != "" {
			return fields[6]
		}
	}
	return standard
}

// environment returns the user's, with what sudo(8) keeps of the caller's: the rest
// may be secrets, or have programs do what their user may not.
func (a account) environment(caller []string) []string {
	kept := slices.DeleteFunc(slices.Clone(caller), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return !slices.Contains([]string{"PATH", "TERM", "LANG"}, name) && !strings.HasPrefix(name, "LC_")
	})
	return append(kept, "HOME="+a.home, "USER="+a.name, "LOGNAME="+a.name, "SHELL="+a.shell)
}
