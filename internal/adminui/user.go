package adminui

import (
	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/service/auth"
)

type usersView struct {
	Users    []account.User
	New      userForm
	Password string // of a user that was just created or changed, shown only once
	For      string
	Problem  *problem
}

type userForm struct{ Name, Role string }

func listUsers(rq *request) error {
	shown := rq.shownOnce(2)
	return showUsers(rq, usersView{For: shown[0], Password: shown[1]}, nil)
}

// showUsers shows the list and the result of a form.
func showUsers(rq *request, v usersView, problem error) (err error) {
	v.Problem = errorView(problem)
	if v.Users, err = rq.ui.Service.Auth.ListUsers(rq.Context(), rq.call); err != nil {
		return err
	}
	return rq.renderForm("users", v, problem)
}

func createUser(rq *request) error {
	f := userForm{rq.PostFormValue("name"), rq.PostFormValue("role")}
	password := account.NewPassword()
	if _, err := rq.ui.Service.Auth.CreateUser(rq.Context(), rq.call, auth.UserParams{Name: &f.Name, Role: &f.Role, Password: &password}); err != nil {
		return showUsers(rq, usersView{New: f}, err)
	}
	return rq.once("/admin/users", f.Name, password)
}

func updateUser(rq *request) error {
	p := auth.UserParams{}
	var password string
	switch rq.PostFormValue("do") {
	case "role":
		role := rq.PostFormValue("role")
		p.Role = &role
	case "password":
		password = account.NewPassword()
		p.Password = &password
	case "disable", "enable":
		disabled := rq.PostFormValue("do") == "disable"
		p.Disabled = &disabled
	}
	u, err := rq.ui.Service.Auth.UpdateUser(rq.Context(), rq.call, rq.PathValue("id"), p)
	if err != nil {
		return showUsers(rq, usersView{}, err)
	}
	if password != "" {
		return rq.once("/admin/users", u.Name, password)
	}
	return rq.redirect("/admin/users?done=user_saved")
}

func settings(rq *request) error { return rq.render("settings", rq.ui.Settings) }
