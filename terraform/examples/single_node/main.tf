# SPDX-License-Identifier: GPL-3.0-or-later
# One gateway host and the buckets for its evidence. Copy it, name your buckets, apply, and give
# `role_vars` to the playbook:
#
#   terraform apply -var name=acme-trailgate -var region=eu-central-1
#   terraform output -json role_vars > role_vars.json
#   ansible-playbook -i inventory trailgate.gateway.site --extra-vars @role_vars.json

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.60, < 7.0"
    }
  }
}

provider "aws" {
  region = var.region
}

module "evidence" {
  source = "../../modules/evidence_bucket"

  name              = var.name
  evidence_lock     = var.evidence_lock
  keys_lock_days    = var.keys_lock_days
  auditor_arns      = var.auditor_arns
  eraser_arns       = var.eraser_arns
  writer_principals = var.writer_principals
  force_destroy     = var.force_destroy
  tags              = { product = "trailgate", name = var.name }
}
